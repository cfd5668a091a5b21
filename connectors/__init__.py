"""One folder per platform; the hub finds them at start and never imports them by name."""
