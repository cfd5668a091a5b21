"""Asking a platform for what its deliveries could not tell."""
