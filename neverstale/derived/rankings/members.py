"""Members of rankings: document keys as bytes whose order is MongoDB's order of `_id`, so that ties agree."""

from typing import Final

_SIGN: Final = 2**63
_ORDER: Final = {"i": b"1", "s": b"2", "u": b"4", "o": b"5"}
"""MongoDB sorts numbers before strings before binary before ObjectIds."""
_OTHER: Final = b"9"
"""Keys of types that no resource can declare come last, by their text."""
_LETTER: Final = {code: letter for letter, code in _ORDER.items()}


def member_of(key: str) -> bytes:
    """The member of a canonical document key (see `neverstale.keys.canonical`)."""
    if key[0] == "s":
        return b"2" + key[2:].encode()
    code = _ORDER.get(key[0])
    if code is None:
        return _OTHER + key.encode()
    if code == b"1":
        return b"1%016x" % (int(key[2:]) + _SIGN)
    return code + key[2:].encode()


def key_of(member: bytes) -> str:
    """The canonical document key of a member."""
    code, value = member[:1], member[1:]
    if code == _OTHER:
        return value.decode()
    if code == b"1":
        return f"i:{int(value, 16) - _SIGN}"
    return f"{_LETTER[code]}:{value.decode()}"
