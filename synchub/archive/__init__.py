"""Copies of ledger and decisions outside the store: segments of hash-chained lines in a folder."""
