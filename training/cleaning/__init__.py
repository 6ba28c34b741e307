"""Staged rows in, clean tables, a quarantine and a report out; called by training/sources/shop.py.

A column with a `fill` may be left null by readers: its rule for missing values, or else the fill, is applied here.
"""

from training.cleaning.doors import EARLIEST_S, LATEST_S
from training.cleaning.report import CleaningReport
from training.cleaning.rules import TableRules
from training.cleaning.tables import clean

__all__ = ["EARLIEST_S", "LATEST_S", "CleaningReport", "TableRules", "clean"]
