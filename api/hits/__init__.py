"""Hits: requests that are answered before ASGI, and the channel that keeps their answers true."""
