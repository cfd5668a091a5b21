"""The merchants' accounts on platforms: what they are, what signs for them, what they count for."""
