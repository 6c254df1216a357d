"""The REST API: cache-aside reads that state their age."""
