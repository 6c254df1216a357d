"""Endpoints: every route, one kind of route a file, and how OpenAPI describes them."""
