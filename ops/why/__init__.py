"""`neverstale why`: the story of one key, or of one group, and what follows from it."""
