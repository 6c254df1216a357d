"""What is derived from documents, as it is asked for: one kind, one file. `kinds.py` has them all."""
