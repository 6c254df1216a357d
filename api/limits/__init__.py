"""Limits: who is asking, and how often a caller may ask."""
