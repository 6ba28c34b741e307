"""One decision per shopper, one call each: `python examples/unary.py --address 127.0.0.1:8470 1 17 42`.

Needs a running gateway (`python -m server`). With --roots, the PEM certificates of who signed the gateway's, it uses
TLS; with STRATAGEM_TOKEN in the environment it sends that bearer token.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from stratagem_client import Access, Client, Refused, Tls, decision_in_words


async def main() -> int:
    """Print one sentence per shopper; exit status 1 if one was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shopper_ids", nargs="+", metavar="SHOPPER", help="shopper ids of the shop's own")
    parser.add_argument("--address", default="127.0.0.1:8470", help="host:port of the gateway (default: %(default)s)")
    parser.add_argument("--roots", type=Path, help="PEM file of root certificates: use TLS")
    parser.add_argument("--within-s", type=float, default=1.0, help="seconds one decision may take (default: 1)")
    given = parser.parse_args()
    tls = Tls.from_files(given.roots) if given.roots else None
    n_refused = 0
    async with Client(given.address, Access(tls, os.environ.get("STRATAGEM_TOKEN"))) as client:
        for shopper_id in given.shopper_ids:
            try:
                decision = await client.decide(shopper_id, given.within_s)
            except Refused as refused:
                n_refused += 1
                print(f"{shopper_id}: refused, {refused}", file=sys.stderr)
                continue
            print(decision_in_words(decision))
            for reason in decision.reasons:
                print(f"  {reason.words}")
    return min(n_refused, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
