"""For callers of the REST API: read your own writes, and never see time go backwards.

```python
reads = Session()
with httpx.Client(base_url="http://127.0.0.1:8000", event_hooks=reads.hooks()) as http:
    with mongo.start_session() as session:
        flights.update_one({"_id": key}, {"$set": {"gate": "C12"}}, session=session)
        reads.wrote(session)
    http.get(f"/v1/flights/{quote(key, safe='')}")  # has the gate, from wherever it comes
```

A session is a version: no answer to it misses a change up to that. Give it to every reader who must not see less,
also to another service: `Session(version)`, and `session.version` travels as 16 hex digits. Without hooks, send
`headers` and hand every answer's headers to `saw`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from neverstale.versions import Version, from_hex, from_timestamp, to_hex


class Message(Protocol):
    """A request or an answer, of httpx or of anything alike."""

    @property
    def headers(self) -> Any: ...


class Session:
    """The version below which nothing will do. Not for use by several threads at once."""

    def __init__(self, version: Version = 0) -> None:
        self.version = version

    @property
    def headers(self) -> dict[str, str]:
        """What a request has to say; nothing before the first write or answer."""
        return {"Neverstale-Min-Version": to_hex(self.version)} if self.version else {}

    def saw(self, headers: Mapping[str, str]) -> None:
        """An answer came with these headers; names in any case if the mapping finds them so, else as documented."""
        if version := headers.get("Neverstale-Version"):
            self.version = max(self.version, from_hex(version))

    def wrote(self, session: Any) -> None:
        """A client session of PyMongo or Motor has written; every answer from now on knows of it."""
        if session.operation_time is not None:
            self.version = max(self.version, from_timestamp(session.operation_time))

    def hooks(self) -> dict[str, list[Callable[[Message], None]]]:
        """`event_hooks` of an `httpx.Client`."""
        return {"request": [self._demand], "response": [lambda answer: self.saw(answer.headers)]}

    def async_hooks(self) -> dict[str, list[Callable[[Message], Awaitable[None]]]]:
        """`event_hooks` of an `httpx.AsyncClient`."""

        async def demand(request: Message) -> None:
            self._demand(request)

        async def note(answer: Message) -> None:
            self.saw(answer.headers)

        return {"request": [demand], "response": [note]}

    def _demand(self, request: Message) -> None:
        for name, value in self.headers.items():
            request.headers[name] = value
