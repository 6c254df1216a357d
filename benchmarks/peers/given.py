"""What the benchmark gives its peers."""

import os

REDIS_URL = os.environ.get("PEER_REDIS", "redis://127.0.0.1:6379/0")
BODY = os.environ.get("PEER_BODY", "{}").encode()
