"""The HTTP face: one application per kind of caller."""
