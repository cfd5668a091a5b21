"""synchub: one stock truth per SKU for merchants who sell through AI agents."""

__version__ = "0.1.0"
