"""How stale answers are, beside the caches that people use: on the same stretch of real work."""
