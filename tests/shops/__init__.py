"""Shops in miniature for tests."""
