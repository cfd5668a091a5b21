"""Answers while the store is away: the sources are asked, and nothing is told from memory."""
