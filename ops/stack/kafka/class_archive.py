"""Kafka's classes as a JVM keeps them in memory, in a file: with it a broker starts in half of the CPU seconds.

A JVM writes such a file when it ends ("dynamic archive", JEP 350); another one with the same Java and the same jars
maps it. So a broker runs once only to be asked to end. What it leaves lies in the cache folder, beside the jars.
"""

import contextlib
import fcntl
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neverstale.ops.stack.kafka.jvm import Jvm
from neverstale.ops.stack.kafka.libs import kept_classes


def archive_of(jvm: Jvm) -> Path:
    """Where the archive for just this Java and these jars is, or would be."""
    files = [jvm.java.resolve(), *sorted(jvm.libs.glob("*.jar"))]
    seen = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return kept_classes(jvm.libs, hashlib.sha256("\n".join(seen).encode()).hexdigest()[:16])


@contextmanager
def making(archive: Path) -> Iterator[Path | None]:
    """A folder in which the archive is to be written under its own name; it appears whole, when this ends well.

    None: it is there, or another process is making it, or the cache cannot be written. Nothing there at the end: this
    Java writes none, which is kept as an empty file, so that nobody tries again.
    """
    with contextlib.ExitStack() as exits:
        folder = _alone(archive, exits)
        yield folder
        if folder is not None:
            made = folder / archive.name
            made.touch()
            made.replace(archive)


def _alone(archive: Path, exits: contextlib.ExitStack) -> Path | None:
    """A folder on the archive's disk, if nobody else has one."""
    if archive.exists():
        return None
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        lock = exits.enter_context(archive.with_suffix(".lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if archive.exists():
            return None
        return Path(exits.enter_context(tempfile.TemporaryDirectory(dir=archive.parent, prefix=".classes-")))
    except OSError:
        return None
