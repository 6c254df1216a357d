"""What a request names, read from the bytes as they were sent.

A server decodes the path before it hands it over, so that `a%2Fb` and `a/b` look alike. Keys may hold any
character, therefore paths are routed undecoded and each key is decoded here, once. Lists of keys likewise: a comma
between keys is a comma, a comma inside a key is `%2C`. In a query `+` is a space, in names as in values.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.web.problems import bad_parameter
from neverstale.catalog import Resource
from neverstale.keys import KeyValue, parse

PREFIX: Final = "/v1/"
MAX_KEYS: Final = 200

SHOWN: Final = 1000
"""Letters of a name that nobody has declared, at most so many are repeated."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
"""What the names of resources, lists, counters and rankings consist of."""


class UndecodedPaths:
    """ASGI middleware: the paths below `/v1/` are routed as they were sent, except that names are names however they
    are spelled: `%74hings` is `things` (RFC 3986, section 6.2.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            raw: bytes | None = scope.get("raw_path")
            # Not every server tells the raw path; then an encoded slash cannot be told from a plain one.
            path = raw.decode("latin-1") if raw is not None else quote(scope["path"])
            scope = {**scope, "path": with_plain_names(path) if "%" in path else path}
        await self._app(scope, receive, send)


def with_plain_names(path: str) -> str:
    """The path with all that is decoded that is a name and no key."""
    segments = path.split("/")
    key = 3 if len(segments) == 4 else 5 if len(segments) == 6 and _plain(segments[4]) == "most-read" else 6
    return "/".join(segment if place == key else _plain(segment) for place, segment in enumerate(segments))


def _plain(segment: str) -> str:
    name = unquote(segment)
    return name if _NAME.fullmatch(name) else segment


def key_of(segment: str, resource: Resource, parameter: str = "key") -> KeyValue:
    """The key in an undecoded path segment or list item; a `Problem` that names `parameter` otherwise."""
    return _key(segment.encode("latin-1"), resource, parameter)


def keys_of(query: bytes, resource: Resource) -> list[KeyValue]:
    """The keys in an undecoded query string: `keys=a,b`, `keys=a&keys=b`, or both."""
    items: list[bytes] = []
    for name, value in parameters_of(query):
        if name != "keys":
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


def parameters_of(query: bytes) -> Iterator[tuple[str, bytes]]:
    """Decoded names and undecoded values; a `Problem` for a name that is none."""
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            yield decoded(name.replace(b"+", b"%20"), shown(name.decode("latin-1")), "the name"), value


def text_of(value: bytes, parameter: str) -> str:
    """An undecoded value of a query; a `Problem` that names the parameter if there is no text behind it."""
    return decoded(value.replace(b"+", b"%20"), parameter, "the value")


def listed(value: bytes, declared: Collection[str], parameter: str) -> list[str]:
    """The declared fields in an undecoded value, between commas. A comma inside a name is `%2C`; a client that
    encodes every comma is understood, too, unless that is another name."""
    names: list[str] = []
    for item in value.split(b","):
        text = text_of(item, parameter)
        while text not in declared and (name := _longest(text, declared)) is not None:
            names.append(name)
            text = text[len(name) + 1 :]
        if text not in declared:
            known = ", ".join(declared) or "none"
            raise bad_parameter(parameter, f"{shown(text)!r} is not one of the declared fields: {known}")
        names.append(text)
    return names


def _longest(text: str, declared: Collection[str]) -> str | None:
    """The longest declared name with which a list begins."""
    return max((name for name in declared if text.startswith(name + ",")), key=len, default=None)


def _key(encoded: bytes, resource: Resource, parameter: str) -> KeyValue:
    try:
        return parse(decoded(encoded, parameter, "the key"), resource.key_type)
    except ValueError as error:
        raise bad_parameter(parameter, str(error)) from None


def decoded(encoded: bytes, parameter: str, what: str) -> str:
    """The text that was percent-encoded; a `Problem` of this parameter if there is none, which calls it `what`."""
    if _BAD_ESCAPE.search(encoded):
        raise bad_parameter(parameter, "a % must be followed by two hex digits; the character itself is %25")
    try:
        return unquote_to_bytes(encoded).decode("utf-8")
    except UnicodeDecodeError:
        raise bad_parameter(parameter, f"{what} is not valid UTF-8") from None


def shown(name: str) -> str:
    """A name that nobody has declared, as a problem may repeat it."""
    return name if len(name) <= SHOWN else name[:SHOWN] + "…"
