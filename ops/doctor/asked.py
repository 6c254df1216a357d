"""One look at one server. What it does not answer keeps nobody from hearing of the rest."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from neverstale.errors import Outage
from neverstale.ops.check.findings import Finding, Say

Client = TypeVar("Client")


async def asked(
    says: Sequence[Say],
    connected: AbstractAsyncContextManager[Client],
    look: Callable[[Client], Awaitable[list[Finding]]],
) -> list[Finding]:
    """What a look has found, or of each of its checks that it could not be looked at. None hides the others."""
    try:
        async with connected as client:
            return await look(client)
    except Outage as outage:
        return [say.unseen(f"it could not be looked at: {outage.reason}") for say in says]
    except (LookupError, ValueError, TypeError) as error:
        # A service that speaks the protocol of another server need not tell all that this one does.
        return [say.unseen(f"the server tells it in a way that nobody here knows: {error!r}") for say in says]
