"""The feature set as a user of polars or pandas would best compute it: what the kernels are timed against.

Both take events with the ledger's columns and answer every shopper as of one moment. They suppose what generated and
ingested shops hold to: every order has a key, and the lines of one order share its second.
"""
