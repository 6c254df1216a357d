"""Freshness: how old an answer can be, and what vouches for that."""
