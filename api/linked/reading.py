"""Reading for one request: its demands hold for every part of its answer until the last one is there.

A part that was young enough when it was taken from the cache may be too old when MongoDB has been waited for because
of another one. Then all is read again, and most of it is in the cache by then.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from neverstale.api.linked.linker import Linker
from neverstale.api.linked.many import Many
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.reads.ask import Bound
from neverstale.api.state import State
from neverstale.api.web.unread import Holding

ROUNDS: Final = 3
"""What is too old after so many was waited for that long; its bound says so."""

_T = TypeVar("_T")


async def reading(
    state: State, wish: Wish, holding: Holding, parameter: str, read: Callable[[Linker, Many], Awaitable[_T]]
) -> _T:
    """What `read` returns, with a linker and a reader of many that are its own. `parameter`: what makes it large."""
    for remaining in range(ROUNDS - 1, -1, -1):
        many = Many(state.reader, wish, holding, state.clients.answer_bytes, parameter)
        linker = Linker(state.sources.documents, many)
        found = await read(linker, many)
        if not remaining or wish.max_age_seconds is None or not _outlived(linker, wish.max_age_seconds, state):
            return found
    raise AssertionError("unreachable")


def _outlived(linker: Linker, limit: float, state: State) -> bool:
    bound = state.freshness.bound
    documents = [each for each in linker.parts.values() if isinstance(each, Answer)]
    return any(is_older(each, limit, bound) for each in (*documents, *linker.beside))


def is_older(answer: Answer, limit: float, bound: Bound) -> bool:
    """Whether an answer of the cache is older than that by now. What MongoDB was read for is as young as can be."""
    if answer.failed or (answer.detail == "mongodb" and not answer.collapsed):
        return False
    age = bound(max(answer.version, answer.complete))
    return age is None or age > limit
