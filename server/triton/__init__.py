"""Finds or starts a Triton and asks it for predictions."""
