"""The record of what agents asked, what they were shown, and what was decided."""
