"""Keys, spelled in one place: document keys as text, and the names of everything in Redis.

A document key's *canonical* form is a type letter, a colon and the value, so that equal `_id`s have equal
text and unequal ones never do, whatever their types and however deep their numbers lie. It is the same in Kafka
record keys, in Redis and in the API.
"""

import re
import uuid
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias

from bson.binary import UUID_SUBTYPE, Binary
from bson.code import Code
from bson.decimal128 import Decimal128
from bson.errors import InvalidId
from bson.objectid import ObjectId

from neverstale.bson import spelling as bson_spelling
from neverstale.bson import values as bson_values

KeyType = Literal["string", "int", "objectid", "uuid"]
KeyValue: TypeAlias = str | int | ObjectId | uuid.UUID

MAX_KEY_BYTES = 4096
"""Longest canonical key that the API accepts."""

_EXACT = Context(prec=1100, Emin=-9999, Emax=9999)
"""Room for every double: the longest has 767 digits."""
UUID_BYTES: Final = 16
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_UUID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_LETTER: dict[KeyType, str] = {"string": "s", "int": "i", "objectid": "o", "uuid": "u"}


def canonical(value: Any) -> str:
    """The canonical text of an `_id` of any BSON type.

    MongoDB compares numbers by their exact value, whatever their type: 1, 1.0 and NumberDecimal("1.00") are the
    same `_id`. `i:` is a whole number of 64 bits, `n:` any other.
    """
    if type(value) is str or (isinstance(value, str) and not isinstance(value, Code)):
        return "s:" + value
    if isinstance(value, ObjectId):
        return "o:" + str(value)
    if isinstance(value, uuid.UUID):
        return "u:" + value.hex
    if isinstance(value, Binary) and value.subtype == UUID_SUBTYPE and len(value) == UUID_BYTES:
        return "u:" + value.hex()
    if isinstance(value, bool):
        return f"x:{_bson_hex(value)}"
    if isinstance(value, int):
        return f"i:{int(value)}"
    if isinstance(value, float):
        return _number(Decimal(value))
    if isinstance(value, Decimal128):
        return _number(value.to_decimal())
    return f"x:{_bson_hex(value)}"


def _number(number: Decimal) -> str:
    if number.is_nan():
        return "n:NaN"
    if number.is_finite() and _INT64_MIN <= number <= _INT64_MAX and number == number.to_integral_value():
        return f"i:{int(number)}"
    return f"n:{number.normalize(_EXACT)}"


def _bson_hex(value: Any) -> str:
    return bson_spelling.spelled(value).hex()


def parse(text: str, key_type: KeyType) -> KeyValue:
    """The `_id` that a path segment or query value names; `ValueError` says what is expected."""
    if not text:
        raise ValueError("the key is empty")
    if len(text) > MAX_KEY_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES:
        raise ValueError(f"the key is longer than {MAX_KEY_BYTES} bytes")
    if key_type == "string":
        return _parse_string(text)
    if key_type == "int":
        return _parse_int(text)
    if key_type == "objectid":
        try:
            return ObjectId(text)
        except InvalidId:
            raise ValueError("expected an ObjectId: 24 hex digits") from None
    if not _UUID.fullmatch(text):
        raise ValueError("expected a UUID, e.g. 12345678-1234-5678-1234-567812345678")
    return uuid.UUID(text)


def _parse_string(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("the key is not valid UTF-8") from None
    return text


def _parse_int(text: str) -> int:
    digits = text[1:] if text[0] == "-" else text
    # Only ASCII digits in their one spelling: "01" and "+1" would be other names for the same key.
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0") or text == "-0":
        raise ValueError("expected a whole number, e.g. 42")
    if len(digits) > 19 or not _INT64_MIN <= int(text) <= _INT64_MAX:
        raise ValueError("expected a whole number of at most 64 bits")
    return int(text)


def of_json(value: Any, key_type: KeyType) -> KeyValue:
    """The `_id` that a JSON value names; `ValueError` says what is expected. Numbers have one type: 2.0 is 2."""
    if key_type == "int":
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not _INT64_MIN <= value <= _INT64_MAX:
            raise ValueError("expected a whole number of at most 64 bits, not in quotes")
        return value
    if type(value) is not str:
        raise ValueError(f"expected a string, {_AS_TEXT[key_type]}")
    return parse(value, key_type)


_AS_TEXT: dict[KeyType, str] = {
    "string": "in quotes",
    "objectid": "the 24 hex digits of an ObjectId",
    "uuid": "a UUID, e.g. 12345678-1234-5678-1234-567812345678",
}


def type_prefix(key_type: KeyType) -> str:
    """How the canonical keys of this type begin, and no others."""
    return _LETTER[key_type] + ":"


def type_matches(canonical_key: str, key_type: KeyType) -> bool:
    return canonical_key.startswith(type_prefix(key_type))


def value_of(canonical_key: str) -> KeyValue:
    """The `_id` that a canonical key spells; `ValueError` for one of a type that no resource is declared with."""
    letter, colon, text = canonical_key.partition(":")
    match letter + colon:
        case "s:":
            return text
        case "i:":
            return _parse_int(text or "?")
        case "o:":
            try:
                return ObjectId(text)
            except InvalidId:
                raise ValueError("not the canonical key of an ObjectId") from None
        case "u:":
            return uuid.UUID(hex=text)
    raise ValueError("not the canonical key of a string, whole number, ObjectId or UUID")


def any_value_of(canonical_key: str) -> Any:
    """The `_id` that a canonical key of any type spells; `ValueError` if it spells none."""
    if canonical_key.startswith("s:"):
        return canonical_key[2:]
    if canonical_key.startswith("x:"):
        (value,) = bson_values.decode(bytes.fromhex(canonical_key[2:])).values()
        return value
    if canonical_key.startswith("n:"):
        # A double and a decimal that are exactly equal are one `_id`, so either finds the other.
        nearest = float(canonical_key[2:])
        exact = nearest != nearest or Decimal(nearest) == Decimal(canonical_key[2:])
        return nearest if exact else Decimal128(canonical_key[2:])
    return value_of(canonical_key)


UNDECLARED: Final = "000000"
"""Of entries whose bodies depend on no declaration."""
_OF_KEY: Final = 10
DIGESTS: Final = 16_384
"""Of keys that are remembered: every hit in Redis needs one, and to make it takes six times as long."""


@lru_cache(DIGESTS)
def digest(redis_key: bytes, shows: str = UNDECLARED) -> bytes:
    """16 hex digits that an entry carries: ten of its own key, so that no reply is taken for another's, and six of
    what its body was declared to show (`Resource.shows`), so that no body is taken for one that is declared
    otherwise."""
    return (blake2b(redis_key, digest_size=8).hexdigest()[:_OF_KEY] + shows).encode("ascii")


def of_same_key(held: bytes, digest: bytes) -> bool:
    """Whether two digests are of one key, whatever was declared."""
    return held[:_OF_KEY] == digest[:_OF_KEY]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of everything of ours in one Redis, all under `prefix`; or those of one cell, with its hash tag,
    which a Redis Cluster keeps together (`neverstale.redis.cells`)."""

    prefix: str
    tag: str = ""
    """Empty: there is only one cell."""
    base: str = field(init=False)
    """How all of these names begin; a colon follows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", f"{self.prefix}:{{{self.tag}}}" if self.tag else self.prefix)

    def cell(self, tag: str) -> "Names":
        """The names of a cell."""
        return Names(self.prefix, tag)

    def entry_prefix(self, resource: str) -> bytes:
        """An entry's key is this prefix and the document's canonical key, in UTF-8."""
        return f"{self.base}:{resource}:d:".encode()

    def entry(self, resource: str, canonical_key: str) -> bytes:
        return self.entry_prefix(resource) + canonical_key.encode()

    @property
    def applied(self) -> bytes:
        """Register: the highest version that any consumer has begun to apply."""
        return f"{self.base}:applied".encode()

    def floor(self, collection: str) -> bytes:
        """Register: the version below which every entry of the collection is stale."""
        return f"{self.base}:floor:{collection}".encode()

    def watermarks(self, group: str) -> bytes:
        """Hash: partition -> watermark of a consumer group."""
        return f"{self.base}:watermarks:{group}".encode()

    def topics(self, group: str) -> bytes:
        """Hash: partition -> the id of the topic whose marks a consumer group has applied to this very Redis."""
        return f"{self.base}:topics:{group}".encode()

    def reached(self, group: str) -> bytes:
        """Hash: partition -> the offset up to which a consumer group has applied it to this very Redis."""
        return f"{self.base}:reached:{group}".encode()

    @property
    def announcements(self) -> bytes:
        """Channel: what consumers tell every API process, see `neverstale.redis.announcements`."""
        return f"{self.base}:announcements".encode()

    def partitions(self, group: str) -> bytes:
        """Hash: partition -> of how many it is, as its last mark said; see `neverstale.redis.partition_counts`."""
        return f"{self.prefix}:partitions:{group}".encode()

    def limit(self, caller: bytes) -> bytes:
        """How much a caller of the API may still ask for."""
        return f"{self.prefix}:limit:".encode() + caller

    def role(self, role: str, instance: str) -> bytes:
        """A running role's card, kept alive by it; see `neverstale status`."""
        return f"{self.prefix}:role:{role}:{instance}".encode()

    @property
    def audit(self) -> bytes:
        """What the auditor has found in the last hour, as JSON."""
        return f"{self.prefix}:audit".encode()

    @property
    def violations(self) -> bytes:
        """List: the evidence of answers that were wrong, the last ones first."""
        return f"{self.prefix}:violations".encode()

    def type_of(self, key: bytes) -> str | None:
        """Redis's type of what we keep under a key; `None`: it is none of ours."""
        prefix, _, rest = key.partition(b":")
        if prefix != self.prefix.encode():
            return None
        if _ENTRY.match(rest):
            return "string"
        if rest[:1] == b"{":
            derived = b"." not in rest.partition(b"}")[0]  # which tags of documents' cells have
            if derived and (kind := _DERIVED.search(rest)) is not None:
                return _DERIVED_TYPES[kind[1]]
            rest = untagged(rest)
            if _ENTRY.match(rest):
                return "string"
        return _TYPES.get(rest.partition(b":")[0])


def untagged(rest: bytes) -> bytes:
    """What follows the hash tag of a cell, if there is one; `rest`: a name without its prefix."""
    return rest.partition(b"}:")[2] if rest[:1] == b"{" else rest


_ENTRY = re.compile(rb"[^:{]+:d:")
_DERIVED = re.compile(rb"\A\{[^}]*\}:(?:[0-9a-f]+:)?(gens\Z|reads\Z|reads:since\Z|p\Z|b:|t:|c:|k:|z:|l:)")
_DERIVED_TYPES = {
    b"gens": "string",
    b"reads": "zset",
    b"reads:since": "hash",
    b"p": "hash",
    b"b:": "hash",
    b"t:": "hash",
    b"c:": "hash",
    b"k:": "hash",
    b"z:": "zset",
    b"l:": "string",
}
_TYPES = {
    b"applied": "string",
    b"floor": "string",
    b"limit": "string",
    b"role": "string",
    b"watermarks": "hash",
    b"topics": "hash",
    b"reached": "hash",
    b"partitions": "hash",
    b"audit": "string",
    b"violations": "list",
}
