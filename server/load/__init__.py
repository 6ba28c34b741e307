"""Drives a running gateway as its clients would, and measures what they would see."""
