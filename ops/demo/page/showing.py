"""The board of a stack on which the week is played."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.flights.player import Player
from neverstale.ops.demo.page.server import BoardServer
from neverstale.ops.demo.page.switch import FreezeSwitch
from neverstale.ops.stack.stack import LocalStack


def shown(stack: LocalStack, player: Player) -> AbstractAsyncContextManager[str]:
    """Serves the page until the block ends; yields its address."""
    flights = week().flights
    days = sorted({flight.document["day"] for flight in flights})

    def board() -> Mapping[str, Any]:
        return {"days": days, "now": flights[player.now].sched_dep.isoformat() if player.now is not None else None}

    return BoardServer(stack.api_port, FreezeSwitch(lambda: stack.roles), board).serving()
