"""Members of rankings: document keys as bytes whose order is MongoDB's order of `_id`, so that ties agree."""

from typing import Final

_SIGN: Final = 2**63
_ORDER: Final = {"i": b"1", "s": b"2", "u": b"4", "o": b"5", "x": b"9"}
"""MongoDB sorts numbers before strings before binary before ObjectIds. Keys of other types (`x`) come last."""


def member_of(key: str) -> bytes:
    """The member of a canonical document key (see `neverstale.keys.canonical`)."""
    kind, value = key[0], key[2:]
    if kind == "i" and -_SIGN <= int(value) < _SIGN:
        return b"1%016x" % (int(value) + _SIGN)
    return _ORDER["x" if kind == "i" else kind] + (value.encode() if kind != "i" else b"i" + value.encode())


def key_of(member: bytes) -> str:
    """The canonical document key of a member."""
    kind, value = member[:1], member[1:]
    if kind == b"1":
        return f"i:{int(value, 16) - _SIGN}"
    if kind == b"9" and value[:1] == b"i":
        return f"i:{value[1:].decode()}"
    return f"{_LETTER[kind]}:{value.decode()}"


_LETTER: Final = {code: letter for letter, code in _ORDER.items()}
