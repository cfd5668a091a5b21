"""The hub against its floors, measured in one run: a bare server, a bare stream hop, single applies."""
