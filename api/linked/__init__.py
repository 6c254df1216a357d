"""Linked reads: documents with those that they refer to, and only the fields that are wanted."""
