"""Worlds: a role or several on real servers, as tests drive them."""
