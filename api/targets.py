"""What a request names, read from the bytes as they were sent.

A server decodes the path before it hands it over, so that `a%2Fb` and `a/b` look alike. Keys may hold any
character, therefore paths are routed undecoded and each key is decoded here, once. Lists of keys likewise: a comma
between keys is a comma, a comma inside a key is `%2C`.
"""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import bad_parameter
from neverstale.catalog import Resource
from neverstale.keys import KeyValue, parse

PREFIX: Final = "/v1/"
MAX_KEYS: Final = 200

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class UndecodedPaths:
    """ASGI middleware: the paths below `/v1/` are routed as they were sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            raw: bytes | None = scope.get("raw_path")
            # Not every server tells the raw path; then an encoded slash cannot be told from a plain one.
            path = raw.decode("latin-1") if raw is not None else quote(scope["path"])
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def key_of(segment: str, resource: Resource, parameter: str = "key") -> KeyValue:
    """The key in an undecoded path segment or list item; a `Problem` that names `parameter` otherwise."""
    return _key(segment.encode("latin-1"), resource, parameter)


def keys_of(query: bytes, resource: Resource) -> list[KeyValue]:
    """The keys in an undecoded query string: `keys=a,b`, `keys=a&keys=b`, or both."""
    items: list[bytes] = []
    for name, value in parameters_of(query):
        if name != b"keys":
            raise bad_parameter(shown(name), "there is no such parameter; use keys")
        items += value.replace(b"+", b"%20").split(b",")
        if len(items) > MAX_KEYS:
            raise bad_parameter("keys", f"more than {MAX_KEYS} keys")
    if not items:
        raise bad_parameter("keys", "is missing, e.g. keys=a,b,c")
    return [_key(item, resource, "keys") for item in items]


def no_parameters(query: bytes) -> None:
    """A `Problem` if there is any query parameter: a misspelt demand must not be ignored."""
    for name, _ in parameters_of(query):
        raise bad_parameter(shown(name), "there is no such parameter")


def parameters_of(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Decoded names and undecoded values."""
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            yield unquote_to_bytes(name), value


def _key(encoded: bytes, resource: Resource, parameter: str) -> KeyValue:
    if _BAD_ESCAPE.search(encoded):
        raise bad_parameter(parameter, "a % must be followed by two hex digits; the character itself is %25")
    try:
        return parse(unquote_to_bytes(encoded).decode("utf-8"), resource.key_type)
    except UnicodeDecodeError:
        raise bad_parameter(parameter, "the key is not valid UTF-8") from None
    except ValueError as error:
        raise bad_parameter(parameter, str(error)) from None


def shown(name: bytes) -> str:
    """A parameter's name, as a problem may repeat it."""
    text = name.decode("utf-8", "replace")
    return text if len(text) <= 40 else text[:40] + "…"
