"""Derived reads: pages of lists, counters and rankings, as sources that can be read."""
