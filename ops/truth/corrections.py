"""When was an entry corrected? Watches Redis from a process of its own, and joins what it saw with the writes.

    python -m neverstale.ops.truth.corrections REDIS_URL KEY_PREFIX FILE [--one-in N] [--no-headers]

Redis itself says when a key under the prefix is modified (`CLIENT TRACKING ON BCAST`, one push message at the end
of the turn that modified it), so nothing is polled and the servers hardly notice. For one key in N the header is then
fetched; its state counts from the moment at which the reply arrived, which is late by a round trip, never early.
With `--no-headers` the push message itself is noted: for keys that are written once and that nobody else touches.
Source: Redis documentation, "Client-side caching reference", broadcasting mode.
"""

import argparse
import contextlib
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn
from urllib.parse import urlsplit
from zlib import crc32

import hiredis

MODIFIED, MISSING, LOST = b"?", b"-", b"!"
SERVED = (b"D", b"N")
RECONNECT_SECONDS = 0.1
_RECORD = struct.Struct("<dc16sH")


class Sighting(NamedTuple):
    at: float
    """`time.monotonic()`."""
    state: bytes
    """The entry's state letter, `-` missing, `?` modified (headers were not fetched), or `!`: nothing that was seen
    before holds any longer (a new connection, a flush)."""
    version: bytes
    key: bytes


@dataclass
class CorrectionTimes:
    """Seconds from a write's acknowledgement until its entry was no longer served, for entries that were there."""

    seconds: list[float] = field(default_factory=list)
    unseen: int = 0
    """Writes to served entries whose correction was not seen before the watching ended."""


class _Stopped(Exception):
    pass


# --- joining


def join(seen: Iterable[Sighting], writes: Mapping[bytes, Sequence[tuple[float, float]]]) -> CorrectionTimes:
    """`writes`: Redis key -> (sent, acknowledged) of each write, ascending.

    A write counts if the entry was served when it was sent. It is corrected when the entry changes its state or
    version for the first time after that. A correction that came before the acknowledgement counts as 0 seconds.
    """
    found = CorrectionTimes()
    for key, history in _by_key(seen).items():
        for sent, acknowledged in writes.get(key, ()):
            _correction(found, history, sent, acknowledged)
    return found


def _correction(found: CorrectionTimes, history: Sequence[Sighting], sent: float, acknowledged: float) -> None:
    before: Sighting | None = None
    for sight in history:
        if sight.at < sent:
            before = sight
        elif before is None or before.state not in SERVED or sight.state == LOST:
            return
        elif sight.state not in SERVED or sight.version != before.version:
            found.seconds.append(max(0.0, sight.at - acknowledged))
            return
    found.unseen += before is not None and before.state in SERVED


def _by_key(seen: Iterable[Sighting]) -> dict[bytes, list[Sighting]]:
    histories: dict[bytes, list[Sighting]] = {}
    for sight in seen:
        if sight.state == LOST:
            for history in histories.values():
                history.append(sight)
        else:
            histories.setdefault(sight.key, []).append(sight)
    return histories


def read(path: Path) -> Iterator[Sighting]:
    """All that was noted; a record cut short by a kill is left out."""
    with path.open("rb") as file:
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            at, state, version, length = _RECORD.unpack(head)
            yield Sighting(at, state, version, file.read(length))


# --- watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    url: str
    prefix: str
    one_in: int = 1
    headers: bool = True


def watch(options: Watch, file: BinaryIO) -> None:
    """Note every modification until `_Stopped`; reconnect whenever Redis goes away."""
    while True:
        with contextlib.suppress(OSError), _connect(options) as connection:
            _note(file, Sighting(time.monotonic(), LOST, b"", b""))
            file.flush()  # whoever started us takes the first note for a sign that we watch
            _Watching(options, connection, file).run()
        time.sleep(RECONNECT_SECONDS)


class _Watching:
    """One connection's life."""

    def __init__(self, options: Watch, connection: socket.socket, file: BinaryIO) -> None:
        self._options = options
        self._connection = connection
        self._file = file
        self._replies = hiredis.Reader()
        self._asked: deque[bytes] = deque()

    def run(self) -> None:
        while data := self._connection.recv(1 << 16):
            now = time.monotonic()
            self._replies.feed(data)
            while (reply := self._replies.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    self._modified(reply, now)
                else:
                    self._header(reply, now)
            self._file.flush()  # somebody may be waiting for the last of them

    def _modified(self, push: list[Any], now: float) -> None:
        # ["invalidate", keys]; no keys after a flush, when everything is gone.
        for key in push[1] or ():
            if crc32(key) % self._options.one_in:
                continue
            if self._options.headers:
                self._asked.append(key)
                self._connection.sendall(_command(b"GETRANGE", key, b"0", b"18"))
            else:
                _note(self._file, Sighting(now, MODIFIED, b"", key))
        if push[1] is None:
            _note(self._file, Sighting(now, LOST, b"", b""))

    def _header(self, header: bytes, now: float) -> None:
        key = self._asked.popleft()
        _note(self._file, Sighting(now, header[:1] or MISSING, header[3:19], key))


def _connect(options: Watch) -> socket.socket:
    parts = urlsplit(options.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    replies = hiredis.Reader()
    tracking = _command(b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", options.prefix.encode())
    for command in (_command(b"HELLO", b"3"), tracking):
        connection.sendall(command)
        while (reply := replies.gets()) is False:
            if not (data := connection.recv(4096)):
                raise ConnectionResetError("Redis closed the connection")
            replies.feed(data)
        if isinstance(reply, Exception):
            raise ConnectionError(str(reply))
    return connection


def _command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _note(file: BinaryIO, seen: Sighting) -> None:
    file.write(_RECORD.pack(seen.at, seen.state, seen.version, len(seen.key)) + seen.key)


def _on_signal(*_: object) -> NoReturn:
    raise _Stopped


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m neverstale.ops.truth.corrections")
    parser.add_argument("url")
    parser.add_argument("prefix")
    parser.add_argument("file", type=Path)
    parser.add_argument("--one-in", type=int, default=1)
    parser.add_argument("--no-headers", action="store_true")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _on_signal)
    wanted = Watch(url=options.url, prefix=options.prefix, one_in=options.one_in, headers=not options.no_headers)
    with options.file.open("wb") as file, contextlib.suppress(_Stopped):
        watch(wanted, file)


if __name__ == "__main__":
    main()
