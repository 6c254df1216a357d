"""Many cells, read as one: which cell an ask belongs to, and what they vouch for together."""
