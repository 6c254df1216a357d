"""The folder of a stack's data: a temporary one, or a kept one that serves one stack at a time."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neverstale.ops.stack.errors import StackError


@contextmanager
def data_folder(wanted: Path | None) -> Iterator[Path]:
    """`wanted`, ours alone while we run; or, if it is None, a folder that goes with us.

    Raises:
        StackError: another stack uses it.
    """
    with _temporary_folder() if wanted is None else _locked_folder(wanted) as data:
        yield data


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    data = Path(tempfile.mkdtemp(prefix="neverstale-"))
    kept: tuple[str, ...] = ()
    try:
        yield data
    except StackError as error:
        if str(data) in error.problem:
            kept = ("logs",)  # which it tells people to read
        raise
    finally:
        for each in data.iterdir():
            if each.name not in kept:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        if not kept:
            data.rmdir()


@contextmanager
def _locked_folder(data: Path) -> Iterator[Path]:
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "stop that one, or choose another folder with --data"
            raise StackError(f"another stack uses the data in {data}", remedy) from None
        yield data.resolve()
