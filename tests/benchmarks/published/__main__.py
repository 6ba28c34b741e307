"""`python -m tests.benchmarks.published [NAME ...]` trains what the table of public data is made of, and keeps it."""

import sys

from tests.benchmarks.models import PROTOCOLS, fit

if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in PROTOCOLS]
    if unknown:
        sys.exit(f"a protocol must be one of {', '.join(PROTOCOLS)}, got {unknown[0]}")
    fit(sys.argv[1:] or PROTOCOLS)
