"""A small collector of traces: takes OTLP over HTTP, as OpenTelemetry's exporters send it, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from neverstale.ops.stack.ports import LOOPBACK


@dataclass(frozen=True, slots=True)
class Span:
    service: str
    name: str
    trace: str
    """32 hex digits."""
    id: str
    """16 hex digits."""
    parent: str
    """Empty: it has none."""
    links: tuple[str, ...]
    """Ids of spans that it follows from, too."""
    attributes: dict[str, Any]
    nanoseconds: int

    @property
    def named(self) -> str:
        """As a record names it, without its flags (W3C Trace Context)."""
        return f"00-{self.trace}-{self.id}"


@dataclass
class Collector:
    port: int
    spans: list[Span] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def of(self, service: str, name: str) -> list[Span]:
        return [span for span in list(self.spans) if (span.service, span.name) == (service, name)]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            collector.spans.extend(_spans(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    collector = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for span in (one for scope in resource.scope_spans for one in scope.spans):
            yield Span(
                service,
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                tuple(link.span_id.hex() for link in span.links),
                _attributes(span.attributes),
                span.end_time_unix_nano - span.start_time_unix_nano,
            )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
