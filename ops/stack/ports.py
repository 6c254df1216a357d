"""Ports on loopback: one that is free, proof that a wanted one is, and small questions to what listens."""

import asyncio
import contextlib
import errno
import random
import socket

from neverstale.ops.stack.errors import StackError

LOOPBACK = "127.0.0.1"
# Below the range from which systems take the source ports of outgoing connections (32768 on Linux, 49152 by
# IANA). A port from that range can be taken by a client, even one that retries our dead server and so
# connects to itself, before the server is started again on it.
CANDIDATES = range(20_000, 32_000)
ANSWER_SECONDS = 2.0

_handed_out: set[int] = set()


def free_port(rng: random.Random | None = None) -> int:
    """A port that the kernel grants now and that this process has not handed out before."""
    rng = rng or random.Random()
    for _ in range(1000):
        port = rng.choice(CANDIDATES)
        if port not in _handed_out and _bindable(port):
            _handed_out.add(port)
            return port
    raise StackError("no port is free", "stop some of the servers that listen on this machine")


def wanted_port(port: int, option: str) -> int:
    """`port` itself if it is free, a free one if it is 0; otherwise an error that names `option`."""
    if port == 0:
        return free_port()
    if not _bindable(port):
        raise StackError(
            f"port {port} is in use", f"stop what listens there, or choose another with {option} (0: any)"
        )
    return port


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT do no harm
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


async def listens(port: int) -> bool:
    """Whether something accepts connections on `port`."""
    return await _ask(port, b"", b"")


async def answers_ping(port: int) -> bool:
    """Whether a Redis answers PING; one that still loads its data does not."""
    return await _ask(port, b"PING\r\n", b"+PONG")


async def answers_http(port: int, path: str) -> bool:
    """Whether `GET path` is answered with 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n"
    return await _ask(port, request.encode(), b"HTTP/1.1 200")


async def _ask(port: int, request: bytes, expected: bytes) -> bool:
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request)
                return await reader.readexactly(len(expected)) == expected
            finally:
                writer.close()
    return False
