"""Run as a file in place of a role: says that it is ready, and ends as its name or its signals tell it."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Ready(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def main(role: str, behaviour: str) -> None:
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sections = {"api": "API", "console": "CONSOLE"}
    port = os.environ[f"NEVERSTALE_{sections.get(role, 'SERVICE')}__PORT"]
    server = HTTPServer(("127.0.0.1", int(port)), Ready)
    server.handle_request()
    if behaviour == "mortal" and role == "consumer":
        sys.exit("the consumer is out of luck")
    if behaviour.startswith("says"):
        from neverstale.settings.sources import load

        config = os.environ.get("NEVERSTALE_CONFIG")
        settings, _ = load(os.environ, Path(config) if config else None)
        path = Path(behaviour.split(maxsplit=1)[1], f"{role}.json")
        partial = path.with_suffix(".partial")
        partial.write_text(settings.model_dump_json())
        partial.rename(path)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[2], os.environ["STAND_IN"])
