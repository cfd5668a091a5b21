"""A merchant to watch: emulated platforms that post, an agent that follows, and how long it takes."""
