"""Text features of items and reviews in English and Chinese; `features.py` is the door."""
