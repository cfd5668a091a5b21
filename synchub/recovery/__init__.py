"""Brings back from the archive what a store has lost: the sales, and the last word of each source."""
