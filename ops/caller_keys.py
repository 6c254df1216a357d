"""Static keys of callers: adding, listing and revoking lines of their file. A key is shown once, when it is made."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from neverstale.api.callers.key_file import PREFIX, KeyFile, StaticKey, hashed, now
from neverstale.errors import Misconfigured

ID_LETTERS: Final = "0123456789abcdefghijkmnpqrstuvwxyz"
ID_LENGTH: Final = 12
SECRET_BYTES: Final = 32


def add(
    path: Path,
    name: str,
    scopes: Sequence[str],
    claims: Mapping[str, str],
    expires: datetime | None,
) -> tuple[StaticKey, str]:
    """Adds a key; returns its line, and what the caller shows. The file is made if there is none."""
    ident = "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))
    secret = secrets.token_urlsafe(SECRET_BYTES)
    line = StaticKey(
        id=ident,
        name=name,
        sha256=hashed(secret.encode()),
        scopes=tuple(dict.fromkeys(scopes)),
        claims=dict(claims),
        created=now().replace(microsecond=0),
        expires=expires,
    )
    _change(path, lambda held: KeyFile(keys=(*held.keys, line)))
    return line, f"{PREFIX}{ident}_{secret}"


def revoke(path: Path, named: str) -> list[StaticKey]:
    """Takes the key with this id away, or all keys with this name; returns them."""
    gone: list[StaticKey] = []

    def without(held: KeyFile) -> KeyFile:
        gone.extend(key for key in held.keys if named in (key.id, key.name))
        return KeyFile(keys=tuple(key for key in held.keys if key not in gone))

    KeyFile.read(path)  # a file that is not there is not made
    _change(path, without)
    return gone


def _change(path: Path, changed: Callable[[KeyFile], KeyFile]) -> None:
    """Whoever reads the file meanwhile reads the old one or the new one, whole; who changes it waits."""
    with _alone(path):
        held = KeyFile.read(path) if path.exists() else KeyFile()
        new = changed(held)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(new.text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _unwritable(path, error) from None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> Misconfigured:
    return Misconfigured(f"callers.keys_file {path}", f"cannot be written ({error.strerror})", "name another file")
