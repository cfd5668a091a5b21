"""Whether a merchant's history is whole: what a restart, a fail-over and a lost end of the store mean."""
