"""The slow plain-Python twin of each kernel: its definition over the whole history, without recursion.

A family's twin takes (ledger, shopper, at_s), all for one query, and returns the family's columns as a list.
"""

from kernels.reference.money import baskets, prices, spend
from kernels.reference.planning import best_choice, dual_bound, next_item_scores, transitions
from kernels.reference.tastes import categories, contacts, sequences
from kernels.reference.timing import frequency, recency, sessions, week

__all__ = [
    "baskets",
    "best_choice",
    "categories",
    "contacts",
    "dual_bound",
    "frequency",
    "next_item_scores",
    "prices",
    "recency",
    "sequences",
    "sessions",
    "spend",
    "transitions",
    "week",
]
