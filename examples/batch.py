"""Many decisions in columns: `seq 1 100000 | python examples/batch.py --address 127.0.0.1:8470`.

Reads one shopper id per line from standard input, asks in messages of bounded size and sums the columns with numpy.
What got no answer is asked again once, under the same ids. Needs a running gateway (`python -m server`).
"""

import argparse
import asyncio
import itertools
import sys
import time

from stratagem_client import Client, Sizes


async def main() -> int:
    """Print the first rows in words and the totals; exit status 1 if a row got no answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:8470", help="host:port of the gateway (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of one message (default: 10000)")
    parser.add_argument("--show", type=int, default=5, help="rows to print in words (default: 5)")
    given = parser.parse_args()
    shopper_ids = [line.strip() for line in sys.stdin if line.strip()]
    began_s = time.perf_counter()
    async with Client(given.address, sizes=Sizes(batch_rows=given.rows)) as client:
        decisions = await client.decide_many(shopper_ids)
        if decisions.failures:
            decisions = await client.decide_rest(decisions)
    took_s = time.perf_counter() - began_s
    for row in itertools.islice(decisions, given.show):
        print(row.in_words())
    numbers = decisions.columns.rows
    margin, cost = numbers["value_micros"].sum() / 1e6, numbers["cost_micros"].sum() / 1e6
    print(f"{len(decisions):,} rows, {len(decisions) / took_s:,.0f} decisions/s")
    print(f"expected extra margin {margin:,.2f} for {cost:,.2f}")
    for failure in decisions.failures:
        print(f"rows {failure.first} to {failure.end - 1}: {failure.refused}", file=sys.stderr)
    return 1 if decisions.failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
