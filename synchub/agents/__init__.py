"""The agent runtimes: whose stock they see, and the keys by which they are known."""
