"""Seeing to it that platforms go on sending."""
