"""One connection to Redis for what is asked most often: a batch leaves as one write and comes back as parsed replies.

The client's pool and pipeline cost as much for a batch as all else that is done for its hits, or for a few changes.
So the client only opens the connection (address, TLS, password, database), and what goes over it from then on is
ours. Three rules make it safe:

- **No reply is taken for another's.** Replies come in the order of the batches. A connection on which a batch was
  given up, too late or not understood is closed, and nothing more is read from it.
- **A reply counts only if its server is still the one that the connection was opened to.** A master may become
  another one's replica, and take over its data, while its clients stay connected. So each batch ends with the
  question who answers, asked after the data was read.
- **And only if that server is the one which is vouched for**, when the replies are there. Another connection may have
  found out that the address leads to another server now.

Nothing is retried here: an error is an outage, and the next batch opens a new connection.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as TooLate

from neverstale.redis.commands import Command, identity_of
from neverstale.role.tasks import looked_at

WHO_ANSWERS: Final = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"
_REPLID: Final = b"\r\nmaster_replid:"
_NOTHING_YET: Final = object()


class _Batch(asyncio.Future[list[Any]]):
    """What is waited for."""

    def __init__(self, size: int, late: asyncio.TimerHandle) -> None:
        super().__init__()
        self.size = size
        self.late = late

    def settle(self, replies: list[Any]) -> None:
        if not self.cancelled():  # just now: whoever gave it up has not been told yet, and will close the connection
            self.set_result(replies)

    def fail(self, reason: Exception) -> None:
        if not self.done():
            self.set_exception(reason)


_Part: TypeAlias = tuple[Sequence[Command], asyncio.Future[list[Any]]]


class _Together:
    """What several have sent in one turn of the loop: one batch, of which each waits for its part."""

    def __init__(self, parts: Sequence[_Part], size: int, late: asyncio.TimerHandle) -> None:
        self._parts = parts
        self.size = size
        self.late = late

    def settle(self, replies: list[Any]) -> None:
        at = 0
        for commands, part in self._parts:
            if not part.done():
                part.set_result(replies[at : at + len(commands)])
            at += len(commands)

    def fail(self, reason: Exception) -> None:
        _fail(self._parts, reason)


def _fail(parts: Sequence[_Part], reason: Exception) -> None:
    for _, part in parts:
        if not part.done():
            part.set_exception(reason)


class _Line(asyncio.Protocol):
    """A connection that the client has opened and that is ours now."""

    def __init__(self, connection: Any, identity: str, vouched: Callable[[str], bool]) -> None:
        self.identity = identity
        self._replid = identity.rpartition("-")[2].encode()
        self.closed = False
        self._connection = connection
        self._seconds = connection.socket_timeout
        self._vouched = vouched
        self._replies: list[Any] = []
        self._waiting: deque[_Batch | _Together] = deque()
        self._gathered: list[_Part] = []
        """What leaves at the end of this turn of the loop."""
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=self._connection._parser.parse_error,
            notEnoughData=_NOTHING_YET,
        )
        self._loop = asyncio.get_running_loop()
        self._transport = self._connection._writer.transport
        self._transport.set_protocol(self)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        if self.closed:
            raise Disconnected("the connection was lost")
        batch = _Batch(len(commands) + 1, self._loop.call_later(self._seconds, self._give_up))
        self._waiting.append(batch)
        self._transport.write(b"".join((*map(hiredis.pack_command, commands), WHO_ANSWERS)))
        try:
            return await batch
        except asyncio.CancelledError:
            self.close(Disconnected("a batch before was given up"))
            raise

    async def exchange_together(self, commands: Sequence[Command]) -> list[Any]:
        """The same, in one batch with what others send so in this turn of the loop, in order: it asks once who
        answers, and wakes either side once."""
        if self.closed:
            raise Disconnected("the connection was lost")
        part: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._send_gathered)
        self._gathered.append((commands, part))
        try:
            return await part
        except asyncio.CancelledError:
            self.close(Disconnected("a batch before was given up"))
            raise

    def _send_gathered(self) -> None:
        parts, self._gathered = self._gathered, []
        if not parts:
            return  # closed meanwhile
        commands = [command for some, _ in parts for command in some]
        late = self._loop.call_later(self._seconds, self._give_up)
        self._waiting.append(_Together(parts, len(commands) + 1, late))
        self._transport.write(b"".join((*map(hiredis.pack_command, commands), WHO_ANSWERS)))

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while not self.closed and (reply := self._reader.gets()) is not _NOTHING_YET:
                if not isinstance(reply, hiredis.PushNotification):
                    self._take(reply)
        except InvalidResponse as error:
            self.close(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(Disconnected("the connection was lost"))

    def _give_up(self) -> None:
        self.close(TooLate("no reply in time"))

    def close(self, reason: Exception) -> None:
        """Whoever still waits is told the reason."""
        if self.closed:
            return
        self.closed = True
        self._transport.abort()
        self._connection._close()
        for batch in self._waiting:
            batch.late.cancel()
            batch.fail(reason)
        self._waiting.clear()
        gathered, self._gathered = self._gathered, []
        _fail(gathered, reason)

    def _take(self, reply: Any) -> None:
        if not self._waiting:
            self.close(InvalidResponse("a reply that nobody waits for"))
            return
        self._replies.append(reply)
        if len(self._replies) < self._waiting[0].size:
            return
        replies, self._replies = self._replies, []
        if not self._is_same(replies.pop()):
            self.close(unvouched())
            return
        batch = self._waiting.popleft()
        batch.late.cancel()
        batch.settle(replies)

    def _is_same(self, replication: Any) -> bool:
        if isinstance(replication, Exception):
            self.close(replication)
            return False
        begin = replication.find(_REPLID) + len(_REPLID)
        return replication.startswith(self._replid, begin) and self._vouched(self.identity)


async def ask_identity(connection: Any) -> str:
    """The identity of the server behind a connection of the client's that nobody else uses now."""
    answers = []
    for section in ("server", "replication"):
        await connection.send_command("INFO", section)
        answers.append(await connection.read_response())
    return identity_of(*answers)


Vouched: TypeAlias = Callable[[str], bool]
"""Whether the server with this identity may answer; asked when the replies are there."""


def unvouched() -> Disconnected:
    """What is wrong with replies of a server that is not vouched for."""
    return Disconnected("the server is no more the one that is vouched for")


def whoever(identity: str) -> bool:
    """Any server may answer."""
    return True


class Wire:
    """`redis`: how connections are opened, and how long they wait for replies. `vouched`: whether what the Redis with
    this identity holds may be served now; whoever writes asks for no more than that it stays the same.

    Belongs to the event loop in which it is first used.
    """

    def __init__(self, redis: Redis, vouched: Vouched = whoever) -> None:
        self._pool: Any = redis.connection_pool
        self._vouched = vouched
        self._line: _Line | None = None
        self._opening: asyncio.Task[_Line] | None = None

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """See `neverstale.redis.commands.RoundTrip`."""
        line = self._line
        if line is None or line.closed or not self._vouched(line.identity):
            line = await self._opened()
        return await line.exchange(commands)

    async def exchange_with(self, commands: Sequence[Command], vouched: Vouched) -> list[Any]:
        """The same; `vouched` is asked in place of the wire's own, and need not hold for others' commands."""
        line = self._ready or await self._opened()
        replies = await line.exchange_together(commands)
        if not vouched(line.identity):
            raise unvouched()
        return replies

    async def exchange_telling(self, commands: Sequence[Command]) -> tuple[list[Any], str]:
        """The same in a batch of its own; returns the identity of the server, too: it is for the asker to vouch for
        it."""
        line = self._ready or await self._opened()
        return await line.exchange(commands), line.identity

    @property
    def _ready(self) -> _Line | None:
        line = self._line
        return None if line is None or line.closed else line

    async def _opened(self) -> _Line:
        """The new line, which all who need one wait for together."""
        if self._opening is None:
            self.close()
            self._opening = asyncio.create_task(self._open(), name="redis-wire")
            self._opening.add_done_callback(looked_at)  # all who wait may have given up
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Line:
        connection = self._pool.make_connection()
        try:
            await connection.connect()
            self._line = _Line(connection, await ask_identity(connection), self._vouched)
        except BaseException:
            connection._close()
            raise
        finally:
            self._opening = None
        return self._line

    def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._line is not None:
            self._line.close(Disconnected("closed"))
