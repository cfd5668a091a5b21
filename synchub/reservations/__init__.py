"""How an agent holds stock before it pays, and buys what it holds."""
