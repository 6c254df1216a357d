"""What one would otherwise write, each the app of a module: `PEER_REDIS` is the URL, `PEER_BODY` the document."""
