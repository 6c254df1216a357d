"""Redis behind sentinels: each new connection goes to the server that they call the master.

A failover closes the connections to the old master, or breaks them. What is opened afterwards leads to the new one,
which may lack what the old one acknowledged. Nothing here knows of that: it is another Redis, and is treated as such
(docs/protocol.md, "Another Redis").
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as Disconnected

from neverstale.settings.redis_url import Address, Sentinel

_QUESTION: Final = ("SENTINEL", "get-master-addr-by-name")


class Sentinels:
    """Asks sentinels where the master is, one after the other; who has answered last is asked first.

    Several sentinels may be down, or away from the others, so one that does not know is not believed to know better
    than the next one.
    """

    def __init__(self, named: Sentinel, kind: type[Connection], options: Mapping[str, Any]) -> None:
        """Of connections to the sentinels: `kind`; `options`: user, password, deadlines, certificates."""
        self._master = named.master
        self._addresses = list(named.addresses)
        self._class = kind
        self._options = {**options, "retry": Retry(NoBackoff(), 0)}

    async def master(self) -> Address:
        """Host and port of the master. Raises redis's `ConnectionError` if no sentinel names one."""
        reasons: list[str] = []
        refusal: RedisError | None = None
        for address in tuple(self._addresses):
            try:
                found = await self._ask(address)
            except (RedisError, OSError) as error:
                reasons.append(f"{address.host}:{address.port}: {type(error).__name__}")
                refusal = error if isinstance(error, AuthenticationError | NoPermissionError) else refusal
                continue
            if found is not None:
                self._addresses.remove(address)
                self._addresses.insert(0, address)
                return found
            reasons.append(f"{address.host}:{address.port} knows no {self._master}")
        raise Disconnected(f"no sentinel names the master: {'; '.join(reasons)}") from refusal

    async def _ask(self, address: Address) -> Address | None:
        connection: Any = self._class(host=address.host, port=address.port, **self._options)
        try:
            await connection.connect()
            await connection.send_command(*_QUESTION, self._master)
            reply: Sequence[bytes] | None = await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)
        return None if reply is None else Address(reply[0].decode(), int(reply[1]))


class ToMaster:
    """Mixed into a connection of the client's: asks where the master is each time that it connects."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def _connect(self) -> None:
        # The type checker does not know what this is mixed into.
        connection: Any = self
        connection.host, connection.port = await self._sentinels.master()
        await super()._connect()  # type: ignore[misc]
