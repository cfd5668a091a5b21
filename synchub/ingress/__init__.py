"""From a platform's POST to a durable delivery, and from there to events."""
