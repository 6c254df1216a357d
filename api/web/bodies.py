"""Bodies of requests: JSON, read strictly. What a reader of JSON would guess at is refused: a name twice, NaN, other
encodings than UTF-8.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from starlette.types import Receive, Scope

from neverstale.api.state import state_of
from neverstale.api.web.problems import bad_body, body_too_large, body_too_slow, unsupported_media_type

JSON: Final = b"application/json"
_CHARSETS: Final = frozenset((b"utf-8", b'"utf-8"'))


class ClientGone(Exception):
    """Nobody waits for an answer any more."""


async def json_body(scope: Scope, receive: Receive) -> Any:
    """The JSON that a request carries; a `Problem` says what is wrong with it. Raises `ClientGone`."""
    _check_type(scope["headers"])
    clients = state_of(scope).clients
    try:
        async with asyncio.timeout(clients.head_seconds):
            body = await _whole(receive, clients.body_bytes)
    except TimeoutError:
        raise body_too_slow() from None
    return parsed(body)


def parsed(body: bytes) -> Any:
    """What JSON says; a `Problem` if it is none, or says a name twice."""
    try:
        found = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
        if b"\\u" in body:
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeDecodeError:
        raise bad_body("is not valid UTF-8") from None
    except UnicodeEncodeError:
        raise bad_body("has a half of a surrogate pair, which is no character") from None
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise bad_body(f"is not JSON{where}" if body else "is empty; send JSON") from None


async def _whole(receive: Receive, limit_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise body_too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _check_type(headers: Iterable[tuple[bytes, bytes]]) -> None:
    types: list[bytes] = []
    for name, value in headers:
        if name == b"content-type":
            types.append(value)
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise unsupported_media_type("the body has a Content-Encoding; send it as it is")
    if len(types) != 1:
        raise unsupported_media_type("send one Content-Type: application/json")
    kind, *parameters = (part.strip().lower() for part in types[0].split(b";"))
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name == b"charset" and value not in _CHARSETS:
            raise unsupported_media_type("the only charset of JSON is UTF-8")
    if kind != JSON:
        raise unsupported_media_type("the body has another Content-Type than application/json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise bad_body(f"has {twice[:100]!r} twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
