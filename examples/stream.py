"""Many decisions on one stream: `seq 1 2000 | python examples/stream.py --address 127.0.0.1:8470`.

Reads one shopper id per line from standard input and prints each decision as soon as it comes, in any order. Needs a
running gateway (`python -m server`). Break the gateway off and start it again in the middle: nothing is lost.
"""

import argparse
import asyncio
import sys
import time

from stratagem_client import Client, Refused, decision_in_words


async def main() -> int:
    """Print one sentence per shopper and the rate; exit status 1 if one was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:8470", help="host:port of the gateway (default: %(default)s)")
    parser.add_argument("--most-open", type=int, default=256, help="asks without an answer at one time (default: 256)")
    parser.add_argument("--within-s", type=float, default=5.0, help="seconds one decision may take (default: 5)")
    given = parser.parse_args()
    shopper_ids = (line.strip() for line in sys.stdin if line.strip())
    n_decided, n_refused, began_s = 0, 0, time.perf_counter()
    async with Client(given.address) as client, client.stream(given.most_open, given.within_s) as stream:
        async for shopper_id, answer in stream.answers(shopper_ids):
            if isinstance(answer, Refused):
                n_refused += 1
                print(f"{shopper_id}: refused, {answer}", file=sys.stderr)
            else:
                n_decided += 1
                print(decision_in_words(answer))
    per_s = n_decided / (time.perf_counter() - began_s)
    print(f"{n_decided:,} decided, {n_refused:,} refused, {per_s:,.0f} decisions/s", file=sys.stderr)
    return min(n_refused, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
