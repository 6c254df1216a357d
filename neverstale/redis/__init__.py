"""Redis: the protocol's steps, what lies there, and what is announced over it."""
