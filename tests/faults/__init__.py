"""Faults that must hold, on real processes under real load: short in the suite, long in the campaign."""
