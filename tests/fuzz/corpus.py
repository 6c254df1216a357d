"""The corpus: for each target some inputs that lead far into it, and what has once broken it."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from neverstale.api.derived import cursors
from neverstale.api.derived.cursors import Cursor
from neverstale.kafka.events import Change, Event, Floor, Mark, Rebuilt, Touch, encode
from neverstale.redis.announcements import Announcer
from neverstale.redis.entries import etag_of
from neverstale.versions import to_hex
from tests.fuzz.targets import DIGEST, OWNER

FOLDER: Final = Path(__file__).parent / "corpus"
AT: Final = 0x5117A1B300000001
VERSION: Final = to_hex(AT)


def seeds(name: str) -> list[bytes]:
    """Of a target: written ones, and those of the folder."""
    kept = [path.read_bytes() for path in sorted((FOLDER / name).glob("*")) if path.is_file()]
    return [*WRITTEN.get(name, ()), *kept]


def _entry(kind: bytes, body: bytes) -> bytes:
    header = kind + b"1" + kind + VERSION.encode() * 2 + b"0" * 29
    return header + DIGEST + etag_of(body) + body


def _cursor(*position: object) -> bytes:
    text = cursors.encode(Cursor(3, position), OWNER)
    assert text is not None
    return text.encode()


_FACTS: Final = {"origin": "s:JFK"}
_CHANGE: Final = Change("update", "nyc", "flights", "s:a", AT, 1_700_000_000_000, ("gate",), _FACTS)
_EVENTS: Final[tuple[Event, ...]] = (
    _CHANGE,
    replace(_CHANGE, operation="delete", fields=None, named=None),
    Mark(AT, 1_700_000_000_000, 4, 1, "topic"),
    Floor("nyc", "flights", AT, "drop"),
    Touch("nyc", "flights", "s:a", AT),
    Rebuilt("flights", "a1b2", 4),
)
WRITTEN: Final[dict[str, tuple[bytes, ...]]] = {
    "events": (*map(encode, _EVENTS), b'{"f":99,"kind":"change"}', b""),
    "record_keys": (b"s:a", b"i:-42", b"o:5117a1b3000000015117a1b3", b"u:12345678123412341234123456781234", b"n:1.5"),
    "entries": (
        _entry(b"D", b'{"_id":"a"}'),
        _entry(b"N", b""),
        b"S1D" + _entry(b"D", b'{"_id":"a"}')[3:],
        b"L" + b"0" * 95,
    ),
    "announcements": (
        Announcer("a").changes([b"ns:things:d:s:a"], ["things"]),
        Announcer("a").groups(["flights|departures|JFK"]),
        Announcer("a").marks("r-r", 4, {0: (0x5117A1B300000001, 1_700_000_000_000)}),
    ),
    "marks": (VERSION.encode() + b":1700000000000:run-replid", b"4", b"10000", b"-1"),
    "audits": (
        b'{"format":1,"at_ms":1,"since_ms":0,"resources":{"a":{"pages":{"checked":1,"wrong":0,"permanent":0,'
        b'"undecided":0,"nines":0.1,"worst_age_seconds":0,"stale":{"0.1":{"count":0}}}}}}',
        b"[]",
    ),
    "cursors": (_cursor("JFK", 1), _cursor(None), _cursor(1.5, b"\0"), _cursor({"$gt": ""}, [1])),
    "typed_values": (
        *(b"int=-3", b"double=NaN", b"decimal=1E+5000", b"date=2013-02-08T14:05:00.000Z", b"date=-1ms", b"bool=true"),
        *(b"bson=DAAAABAAAQAAAAA", b"binary=AAA=", b"objectid=5117a1b3000000015117a1b3", b"string=\xff"),
    ),
    "demands": (b"max-age=5, no-cache", b'stale-if-error="5"', VERSION.encode(), b"gzip;q=0.5, *", b'W/"a", "b"'),
    "paths": (
        b"/v1/things/a%2Fb",
        b"keys=a,b&keys=%2C",
        b"origin=JFK&day:int=1&cursor=A",
        b"/v1/%74hings/-/most-read/a",
    ),
    "heads": (
        b"GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
}
