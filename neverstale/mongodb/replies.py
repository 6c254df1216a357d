"""Replies of MongoDB's cursors, decoded without any document having to do with its neighbours.

Almost every reply is decoded by the driver in one call. If the driver cannot hold all of it exactly, or if it is so
large that this would hold up the event loop, its documents stay as they lie in BSON and are decoded one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from bson.codec_options import CodecOptions
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument

from neverstale.bson.values import by_driver, decode

AT_ONCE_BYTES: Final = 256 << 10
"""A larger reply is not decoded as a whole: a megabyte takes some 5 ms."""

Row: TypeAlias = dict[str, Any] | RawBSONDocument
"""A document, decoded or as it lies in BSON; see `decoded`."""


_CURSOR: Final = "cursor"
_CURSOR_FIRST: Final = b"\x03cursor\0"
"""The first field of a cursor's reply, and the only one in which documents of others are."""


class RawReply(RawBSONDocument):
    """What a command answers, to be asked for with the codec `REPLY`."""

    @staticmethod
    def _inflate_bson(bson_bytes: bytes | memoryview, codec_options: Any) -> Mapping[str, Any]:
        raw = bytes(bson_bytes) if len(bson_bytes) <= AT_ONCE_BYTES else b""
        if raw and (whole := by_driver(raw, _CURSOR if raw.startswith(_CURSOR_FIRST, 4) else None)) is not None:
            return whole
        return RawBSONDocument._inflate_bson(bson_bytes, DEFAULT_RAW_BSON_OPTIONS)


REPLY: Final[CodecOptions[Any]] = CodecOptions(document_class=RawReply, uuid_representation=4)
"""UUIDs in the command itself are binaries of subtype 4."""


class Reply(NamedTuple):
    """A reply to `find`, `aggregate` or `getMore`."""

    cursor: Mapping[str, Any]
    rows: Sequence[Row]

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> "Reply":
        cursor = reply["cursor"]
        return cls(cursor, cursor["firstBatch"] if "firstBatch" in cursor else cursor["nextBatch"])

    def documents(self) -> list[dict[str, Any]]:
        return list(map(decoded, self.rows))


def decoded(row: Row) -> dict[str, Any]:
    """The document, as `neverstale.bson.values.decode` decodes it."""
    if type(row) is dict:  # almost always; the class of the others is an abstract one, which takes long to ask for
        return row
    return decode(bytes(row.raw)) if isinstance(row, RawBSONDocument) else row


def undecoded_bytes(rows: Sequence[Row]) -> int:
    """How much of them is still to be decoded."""
    if set(map(type, rows)) <= {dict}:
        return 0
    return sum(len(row.raw) for row in rows if isinstance(row, RawBSONDocument))


def split(batch: bytes) -> Iterator[bytes]:
    """The documents that lie one behind another in a raw batch of the driver."""
    at = 0
    while at < len(batch):
        start, at = at, at + int.from_bytes(batch[at : at + 4], "little")
        yield batch[start:at]
