"""Calls to platforms: inside their limits, not while they fail, and again only where that is harmless."""
