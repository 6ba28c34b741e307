"""Feedback in, value and its proof out: figures and reports for people, read by `stratagem demo`."""
