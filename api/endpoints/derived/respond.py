"""From an answer of a source to the response."""

import time
from collections.abc import Collection

from prometheus_client import Histogram
from starlette.types import Receive, Scope, Send

from neverstale.api.reads.answer import Answer
from neverstale.api.state import state_of
from neverstale.api.web.preconditions import Conditions
from neverstale.api.web.responses import absent, facts_of, found_or_unchanged, shared_headers


async def respond(
    scope: Scope,
    receive: Receive,
    send: Send,
    conditions: Conditions,
    answer: Answer,
    absence: bytes,
    seconds: Histogram,
    started: float,
    resources: Collection[str],
) -> None:
    """Sends an answer; `absence`: what is said where there is nothing; `resources`: what it is about."""
    reader = state_of(scope).reader
    facts = facts_of(answer, reader.bound(answer))
    if answer.body is None:
        response = absent(facts, absence, shared_headers(scope, resources))
    else:
        response = found_or_unchanged(scope, conditions, facts, answer.etag, (answer.body,), resources)
    seconds.observe(time.perf_counter() - started)
    await response(scope, receive, send)
