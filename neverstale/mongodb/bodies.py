"""What is made of documents that were read: bodies in JSON with their ETags and ends, or lines of an export."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from neverstale.bson.values import decode
from neverstale.catalog import Resource
from neverstale.keys import canonical
from neverstale.mongodb import bson_json
from neverstale.mongodb.replies import Row, decoded
from neverstale.redis.entries import etag_of
from neverstale.redis.entry_ttl import expiry_of

PORTION_BYTES: Final = 256 << 10
"""Of an export, so much BSON becomes lines at once."""


def portions(raws: Iterable[bytes]) -> Iterator[list[bytes]]:
    """A few documents at a time: of a reply of 16 MB, all lines together would be in memory twice."""
    portion: list[bytes] = []
    size = 0
    for raw in raws:
        portion.append(raw)
        size += len(raw)
        if size > PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def lines(raws: Iterable[bytes]) -> bytes:
    # One by one: a thread that decodes all of it in one call would hold the interpreter's lock as long.
    return b"".join([bson_json.encode(decode(raw)) + b"\n" for raw in raws])


def bodies_of(resource: Resource, found: Sequence[Row]) -> tuple[dict[str, bytes], dict[str, int]]:
    """Canonical key -> JSON, and -> when the document says that it ends."""
    bodies, expiries = {}, {}
    field = resource.expires_field
    for row in found:
        document = decoded(row)
        key = canonical(document["_id"])
        bodies[key] = bson_json.encode(document)
        if field is not None and (expiry := expiry_of(document, field)) is not None:
            expiries[key] = expiry
    return bodies, expiries


def bodies_and_etags(
    resource: Resource, found: Sequence[Row]
) -> tuple[dict[str, bytes], dict[str, int], dict[str, bytes]]:
    bodies, expiries = bodies_of(resource, found)
    return bodies, expiries, {key: etag_of(body) for key, body in bodies.items()}
