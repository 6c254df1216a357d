"""The experiments, each file named by its numbers."""
