"""For callers of the REST API, in Python: typed answers with their bounds, live reads, and sessions.

```python
async with AsyncClient("http://127.0.0.1:8000") as api:
    flight = await api.get("flights", "2013-02-08:UA650:LGA")
    print(flight.value, flight.bound)
```

`Session` alone needs nothing but PyMongo's `bson`, and makes any HTTP client read its own writes; `AsyncClient` wants
httpx (`pip install neverstale[client]`). See docs/clients.md.
"""

from typing import TYPE_CHECKING, Any

from neverstale.client import reads
from neverstale.client.demands import Demand
from neverstale.client.failures import (
    Ambiguous,
    ApiFailure,
    ApiProblem,
    Forbidden,
    NothingThere,
    NotInCache,
    ServerFault,
    TryLater,
    Unauthorized,
    Unintelligible,
    Unreachable,
    WrongRequest,
)
from neverstale.client.fresh import Fresh
from neverstale.client.reads import GroupCount, GroupCounts, ListPage, RankedKey, Readable
from neverstale.client.session import Session

if TYPE_CHECKING:
    from neverstale.client.asynchronous import AsyncClient

__all__ = [
    "Ambiguous",
    "ApiFailure",
    "ApiProblem",
    "AsyncClient",
    "Demand",
    "Forbidden",
    "Fresh",
    "GroupCount",
    "GroupCounts",
    "ListPage",
    "NotInCache",
    "NothingThere",
    "RankedKey",
    "Readable",
    "ServerFault",
    "Session",
    "TryLater",
    "Unauthorized",
    "Unintelligible",
    "Unreachable",
    "WrongRequest",
    "reads",
]


def __getattr__(name: str) -> Any:
    """`AsyncClient` is imported when somebody wants it: `Session` needs no httpx."""
    if name == "AsyncClient":
        from neverstale.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
