"""Counters: what a batch changes in them, how Redis holds them, and what MongoDB says of them."""
