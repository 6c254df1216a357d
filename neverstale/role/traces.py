"""Traces, by OpenTelemetry, where settings want them.

A watcher makes a span for each batch that it publishes, and names it in the mark behind it; a consumer makes one for
each batch that it applies, which follows from those that its marks name. Requests are traced by FastAPI; hits that
are answered before it are, as far as they are measured at all (`neverstale.api.server.sampled`).

Where nothing is traced nothing of it is imported but FastAPI's own interface, and each batch asks one question.
"""

import re
import threading
from collections.abc import Iterable
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Final

from neverstale import __version__
from neverstale.errors import Misconfigured
from neverstale.settings import Service

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Span, Tracer

TRACEPARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""W3C Trace Context."""
MOST_LINKS: Final = 32
LAST_SECONDS: Final = 2.0
"""So long may a process that ends wait for what it has left to export: a collector that is away must not hold it."""

_provider: "TracerProvider | None" = None
"""Of this process, as the registry of metrics is; `None`: nothing is traced."""


def configure(settings: Service, role: str) -> None:
    """Trace from now on, if that is wanted. Raises `Misconfigured` where what it needs is not installed."""
    if not settings.traced_share:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError:
        remedy = "pip install 'neverstale[traces]', or leave it at 0"
        raise Misconfigured(
            "service.traced_share", "OpenTelemetry's SDK and exporter are not installed", remedy
        ) from None
    resource = Resource.create({"service.name": f"neverstale-{role}", "service.version": __version__})
    sampler = ParentBased(TraceIdRatioBased(settings.traced_share))
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider)
    Finalize(None, finish, exitpriority=1)  # in a worker, too, which ends without `atexit`


def finish() -> None:
    """Export what is left, for a short time. By itself the exporter would try again for half a minute."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        last = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(LAST_SECONDS)


def use(provider: "TracerProvider | None") -> None:
    """Give all spans to this provider; `None`: make none."""
    global _provider
    _provider = provider


def provider() -> "TracerProvider | None":
    return _provider


def tracer() -> "Tracer | None":
    """`None`: nothing is traced."""
    return None if _provider is None else _provider.get_tracer("neverstale", __version__)


def traceparent(span: "Span") -> str | None:
    """How a record names a span; `None`: it is not recorded."""
    context = span.get_span_context()
    if not context.trace_flags.sampled:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def named_by(text: str | None) -> str | None:
    """What somebody else wrote, if it names a span. A record is no worse for a name that is none."""
    return text if isinstance(text, str) and TRACEPARENT.fullmatch(text) else None


def origin_of(parents: Iterable[str]) -> "tuple[Context | None, list[Link]]":
    """The context in which to go on, and what else it follows from."""
    from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    contexts = []
    for parent in dict.fromkeys(parents):
        match = TRACEPARENT.fullmatch(parent)
        if match is not None:
            trace_id, span_id, flags = (int(part, 16) for part in match.groups())
            contexts.append(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags)))
    if not contexts:
        return None, []
    return set_span_in_context(NonRecordingSpan(contexts[0])), [Link(one) for one in contexts[1:MOST_LINKS]]
