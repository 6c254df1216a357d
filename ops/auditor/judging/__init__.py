"""Judging: from a question to what its answer was worth."""
