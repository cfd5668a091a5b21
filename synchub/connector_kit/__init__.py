"""All that a connector may use of the hub: its contract, its words and its tools."""
