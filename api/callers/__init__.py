"""Callers: who is asking, and whether he may. One notion of a caller for decisions, limits and tenants."""
