"""Truth: oracles that know what was written and what was read, and nothing of the cache."""
