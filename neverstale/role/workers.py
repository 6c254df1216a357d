"""Several workers of one API show their metrics as one process does.

Whichever worker is asked for `/metrics` asks the supervisor, which asks all of them, each over a connection that a
thread of the worker attends to: no request waits for that. What a worker has counted that has ended stays in
the sums, as it was when it was asked last, or when it ended orderly.
"""

import asyncio
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.util import Finalize
from pickle import UnpicklingError
from typing import Final

from prometheus_client import generate_latest

from neverstale.role import added_up, telemetry
from neverstale.role.added_up import Families

ASK, TELL, WORKER, ALL = b"?", b"=", b"worker", b"all"
PATIENCE_SECONDS: Final = 1.0
"""A worker that does not answer within this is shown as it was."""


@dataclass(frozen=True, slots=True)
class MetricsAddress:
    """Where the supervisor is asked."""

    path: str
    secret: bytes


@dataclass(slots=True)
class _Worker:
    connection: Connection
    said: Families = ()
    ended: bool = False

    def ask(self) -> None:
        """Note what it says now; nothing changes if it says nothing."""
        with suppress(OSError):  # it has ended, and may have said something before
            self.connection.send(ASK)
        try:
            while self.connection.poll(PATIENCE_SECONDS):
                why, self.said = self.connection.recv()
                if why == ASK:
                    return
        except (EOFError, OSError, UnpicklingError):
            self.ended = True


class WorkersMetrics:
    """In the supervisor: attends to its workers, in threads."""

    def __init__(self) -> None:
        secret = os.urandom(16)
        self._listener = Listener(family="AF_UNIX", backlog=64, authkey=secret)
        self.address = MetricsAddress(str(self._listener.address), secret)
        self._workers: list[_Worker] = []
        self._lasting: Families = ()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="metrics", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except (EOFError, ConnectionError, AuthenticationError, AssertionError):
                continue  # a worker that ended at once
            except OSError:
                return  # closed
            threading.Thread(target=self._attend, args=(connection,), name="metrics", daemon=True).start()

    def _attend(self, connection: Connection) -> None:
        try:
            who = connection.recv()
            if who == WORKER:
                with self._lock:
                    self._workers.append(_Worker(connection))
            else:
                connection.send_bytes(self.all())
                connection.close()
        except (EOFError, OSError):
            connection.close()

    def all(self) -> bytes:
        """What all workers say, those included that have ended."""
        with self._lock:
            for worker in self._workers:
                worker.ask()
            for worker in [one for one in self._workers if one.ended]:
                self._workers.remove(worker)
                self._lasting = added_up.together([self._lasting, added_up.lasting(worker.said)])
            parts = [*(one.said for one in self._workers), self._lasting]
            return added_up.text(added_up.together(parts))


class Colleague:
    """In a worker."""

    def __init__(self, address: MetricsAddress) -> None:
        self._address = address
        self._connection = Client(address.path, family="AF_UNIX", authkey=address.secret)
        self._connection.send(WORKER)
        threading.Thread(target=self._answer, name="metrics", daemon=True).start()
        Finalize(None, self._say_last, exitpriority=1)

    async def all(self) -> bytes:
        """The metrics of all workers together."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> bytes:
        with Client(self._address.path, family="AF_UNIX", authkey=self._address.secret) as connection:
            connection.send(ALL)
            return connection.recv_bytes()

    def _answer(self) -> None:
        try:
            while self._connection.recv() == ASK:
                self._connection.send((ASK, list(telemetry.REGISTRY.collect())))
        except (EOFError, OSError):
            return  # the supervisor has ended

    def _say_last(self) -> None:
        with suppress(OSError):
            self._connection.send((TELL, list(telemetry.REGISTRY.collect())))


_colleague: Colleague | None = None
"""Of this process, as the registry is; `None`: it has no colleagues."""


def join(address: MetricsAddress) -> None:
    """Be one of several workers from now on."""
    global _colleague
    _colleague = Colleague(address)


async def shown(only: Collection[str] = ()) -> bytes:
    """What `/metrics` shows: of this process, or of all workers together. `only`: of this process only the samples of
    these names, if any are given."""
    if _colleague is not None:
        with suppress(EOFError, OSError):  # the supervisor has ended, and soon this worker will
            return await _colleague.all()
    return generate_latest(telemetry.REGISTRY.restricted_registry(only) if only else telemetry.REGISTRY)
