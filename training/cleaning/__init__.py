"""Staged rows in, clean tables, a quarantine and a report out; called by training/sources/shop.py.

clean(staged, rules, train_until_s, kept, into, progress) -> report will stand here, with EARLIEST_S, LATEST_S.
A column with a `fill` may be left null by readers: its rule for missing values, or else the fill, is applied here.
"""
