"""How spans are named in records, and what is made of such names."""

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

from neverstale.errors import Misconfigured
from neverstale.kafka.events import Mark, decode, encode
from neverstale.role import traces
from neverstale.settings import Service

GOOD = f"00-{'a' * 32}-{'b' * 16}-01"


def test_a_span_is_found_again_under_the_name_that_a_mark_gives_it() -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("one") as span:
        name = traces.traceparent(span)
    mark = decode(encode(Mark(7, 5, 1, 1, trace=name)))
    assert isinstance(mark, Mark) and mark.trace == name is not None
    context, links = traces.origin_of([mark.trace or "", GOOD, GOOD])
    assert get_current_span(context).get_span_context().span_id == span.get_span_context().span_id
    assert [f"{link.context.trace_id:x}" for link in links] == ["a" * 32]


def test_a_mark_without_a_span_says_nothing_of_traces() -> None:
    assert b"trace" not in encode(Mark(7, 5, 1, 1))


@pytest.mark.parametrize("text", [None, 5, "", "00-x", GOOD + "\n", GOOD.upper(), [GOOD], "00-" + "a" * 4000])
def test_a_mark_is_no_worse_for_a_name_that_is_none(text: object) -> None:
    assert traces.named_by(text) is None  # type: ignore[arg-type]


def test_where_nothing_is_traced_nothing_is_asked_for() -> None:
    assert traces.tracer() is None and traces.provider() is None
    traces.configure(Service(), "api")
    assert traces.tracer() is None


def test_traces_that_are_wanted_and_cannot_be_had_are_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Misconfigured, match=r"neverstale\[traces\]"):
        traces.configure(Service(traced_share=0.1), "api")
