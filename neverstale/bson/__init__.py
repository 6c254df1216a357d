"""BSON: decoded without losing anything, and in one spelling."""
