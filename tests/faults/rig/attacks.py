"""Requests that want something else than an answer, byte by byte. Each is a whole one, as far as it is one at all.

They are sent to a catalog with a resource `words` of strings, which has a list `all` by `kind`, and a resource
`numbers`.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

MEGABYTE: Final = b"x" * (1 << 20)
NAMES: Final = (
    *("secret", '{"$gt":""}', "$ne", "$where", "{}", "}{", "{a}b", "{0}", "%s", "%00", "a\r\nX-Injected: 1", "a\nb"),
    *("..", ".", "a/b", "a,b", "a?b=c", "#", "*", "\0", "ns:words:d:s:secret", "-", "admin", "é", "\U0001f600", " "),
)
"""Of documents that there are."""


def get(target: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")


def _operators() -> Iterable[bytes]:
    """None of them names a document that there is."""
    values = ('{"$gt": ""}', '{"$ne":null}', '["secret"]', "$regex", "secret\0", "secret ", "SECRET", "' || '1'=='1")
    for value in values:
        yield get(f"/v1/words/{quote(value, safe='')}")
        yield get(f"/v1/numbers/{quote(value, safe='')}")
        yield get(f"/v1/words/-/lists/all?kind={quote(value, safe='')}")
    for query in (
        "keys[$ne]=x",
        "keys[]=secret",
        "$where=sleep(9000)",
        "keys.$gt=",
        "filter=%7B%7D",
        "projection=_id",
    ):
        yield get(f"/v1/words?{query}")
        yield get(f"/v1/words/secret?{query}")
        yield get(f"/v1/words/-/lists/all?{query}")
    for number in ("1e0", "0x1", "1.0", "+1", "01", "9" * 40, "true", "null", "NaN", "-0"):
        yield get(f"/v1/numbers/{number}")
    for cursor in ("AAAA", "A" * 5000, "%00", "{}", "eyJhIjoxfQ=="):
        yield get(f"/v1/words/-/lists/all?kind=a&cursor={cursor}")
    yield get("/v1/words/-/export?fields=$$ROOT,_id")


def _line_breaks() -> Iterable[bytes]:
    injected = "%0d%0aX-Injected:%201%0d%0a%0d%0a"
    yield get(f"/v1/words/x{injected}")
    yield get(f"/v1/words?{injected}=1")
    yield get(f"/v1/x{injected}/y")
    yield get(f"/{injected}")
    yield get("/v1/words/x", f"If-None-Match: {injected}")
    yield get("/v1/words/x", "Neverstale-Min-Version: \x0d\x0bX-Injected: 1")
    yield get("/v1/words/x", "Cache-Control: max-age=1\nX-Injected: 1", "Accept-Encoding: gzip\rX-Injected: 1")
    yield b"GET /v1/words/x\r\nX-Injected: 1 HTTP/1.1\r\nHost: a\r\n\r\n"


def _shapes() -> Iterable[bytes]:
    """What is hardly HTTP, and what servers and proxies have read differently."""
    yield get("/v1/words/x", "Content-Length: 5", "Content-Length: 6")
    yield get("/v1/words/x", "Content-Length: 5", "Transfer-Encoding: chunked")
    yield get("/v1/words/x", "Transfer-Encoding: xchunked")
    yield get("/v1/words/x", "Content-Length: -1")
    yield get("/v1/words/x", "Content-Length: 99999999999999999999")
    yield get("/v1/words/x", "Range: bytes=" + ",".join(["0-1"] * 5000))
    yield get("/v1/words/x", "If-None-Match: " + '"a",' * 10_000)
    yield get("/v1/words/x", *(f"X-{number}: y" for number in range(20_000)))
    yield get("/v1/words/x", "X-Long: " + MEGABYTE.decode())
    yield get(f"/v1/words/{MEGABYTE.decode()}")
    yield get("/v1/words?keys=" + ",".join(["x"] * 10_000))
    yield MEGABYTE
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _forged() -> Iterable[bytes]:
    """There are no rights to be had over HTTP, with whatever token, under whatever name."""
    claims = (
        ("Authorization: Bearer admin",),
        ("Authorization: Basic YWRtaW46YWRtaW4=",),
        ("X-Admin-Token: 1", "X-Admin: true", "Cookie: admin=1"),
        ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1"),
        ("X-HTTP-Method-Override: DELETE", "X-Method-Override: PUT"),
        ("X-Original-URL: /v1/words/secret", "X-Rewrite-URL: /v1/words/secret"),
    )
    paths = (
        "/admin",
        "/v1/admin",
        "/v1/-/resync",
        "/v1/words/-/invalidate",
        "/v1/words/-/dlq",
        "/debug",
        "/.env",
        "//",
    )
    for claim in claims:
        for path in paths:
            yield get(path, *claim)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            yield get("/v1/words/secret", *claim, "Content-Length: 0", method=method)
    for method in ("TRACE", "CONNECT", "OPTIONS", "PURGE", "PROPFIND", "get", "GETT"):
        yield get("/v1/words/secret", method=method)


def past_the_limit() -> Iterable[bytes]:
    """Spellings of a document, and forged callers."""
    targets = (
        *("/v1/words/secret", "/v1/words?keys=secret", "/v1/words?keys=secret,secret", "/v1/words/%73ecret"),
        *("/v1/%77ords/secret", "/%761/words/secret", "//v1/words/secret", "/v1//words/secret", "/v1/./words/secret"),
        *("/V1/words/secret", "/v1/words/secret/", "/v1/words/secret?", "/v1/words/secret#", "/v1/words;a/secret"),
        *("/x/../v1/words/secret", "/v1%2Fwords/secret", "/docs/../v1/words/secret", "/metrics/..%2fv1/words/secret"),
        *("http://a/v1/words/secret", "/v1/words/-/lists/all?kind=a", "/v1/words/-/export", "/v1/words/-/most-read"),
        *("/v1/words/secret%00", "/v1\\words\\secret", "/v1/words/./secret", "/livez/../v1/words/secret"),
    )
    for target in targets:
        yield get(target)
        yield get(target, "X-Forwarded-For: 10.1.2.3", "X-Real-IP: 10.1.2.3", "Forwarded: for=10.1.2.3")
        yield get(target, "X-Api-Key: another", "Authorization: Bearer admin", "Cache-Control: no-cache")
        yield get(target, 'If-None-Match: "a"', "Accept-Encoding: gzip")


ATTACKS: Final = (*_operators(), *_line_breaks(), *_shapes(), *_forged())
