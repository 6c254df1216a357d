"""Counters in Redis: the fields of a counter's hash, written by differences and read as counts and sums.

| field         | holds, for one group                                                                     |
|---------------|------------------------------------------------------------------------------------------|
| `n\\|{group}`  | documents                                                                                |
| `m{i}\\|{group}` | documents whose field of sum i is a number: what an average divides by                |
| `l{i}\\|{group}`, `h{i}\\|{group}` | the sum in 1/10^scale, as low and high limb                          |
| `u{i}\\|{group}` | documents whose number the sum cannot hold exactly; while there is one, the sum is unknown |
| `.b`          | of the whole counter: documents beyond a bound; while there is one, the counter is unknown |

A field that would be zero is not there, so empty groups vanish.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neverstale.derived.contributions import joined
from neverstale.derived.kinds.kept import LONGEST_COUNT


@dataclass(frozen=True, slots=True)
class Sum:
    scaled: int | None
    """In 1/10^scale; `None`: a document's number does not fit the scale or 64 bits."""
    numbers: int
    """How many documents hold a number; the average is `scaled / 10^scale / numbers`."""


@dataclass(frozen=True, slots=True)
class Group:
    documents: int
    sums: tuple[Sum, ...]


EMPTY = Group(0, ())


def fields_to_read(group: str, sums: int) -> list[str]:
    """The fields that say everything about one group, for `read_group`."""
    return [f"n|{group}", *(f"{kind}{i}|{group}" for i in range(sums) for kind in "mlhu")]


def read_group(values: Sequence[bytes | None]) -> Group:
    """A group from the values of `fields_to_read`, in order. `ValueError`: nobody has counted so."""
    documents, *rest = (_whole(value) if value is not None else 0 for value in values)
    sums = []
    for start in range(0, len(rest), 4):
        numbers, low, high, unsummable = rest[start : start + 4]
        sums.append(Sum(None if unsummable else joined(high, low), numbers + unsummable))
    return Group(documents, tuple(sums))


def _whole(value: bytes) -> int:
    if len(value) > LONGEST_COUNT or not value.removeprefix(b"-").isdigit():
        raise ValueError("no whole number of 64 bits")
    return int(value)


def read_groups(fields: Mapping[bytes, bytes], sums: int) -> dict[str, Group]:
    """Every group of a counter's hash."""
    names = [field[2:].decode() for field in fields if field[:2] == b"n|"]
    return {name: read_group([fields.get(field.encode()) for field in fields_to_read(name, sums)]) for name in names}


def is_count(field: bytes, value: bytes) -> bool:
    """Whether a counter may hold this: whole; only the limbs of sums may be negative."""
    digits = value.removeprefix(b"-") if field[:1] in (b"l", b"h") else value
    return digits.isdigit() and len(value) <= LONGEST_COUNT
