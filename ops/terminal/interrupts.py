"""Ctrl-C, or another wish that a command may end, as an event: for those that have something to say or to undo."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts(*signals: signal.Signals) -> Iterator[asyncio.Event]:
    """Set by the first of these signals, or else by Ctrl-C; the second one ends the process as ever."""
    loop, event, numbers = asyncio.get_running_loop(), asyncio.Event(), signals or (signal.SIGINT,)

    def interrupted() -> None:
        event.set()
        let_go()

    def let_go() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, interrupted)
    try:
        yield event
    finally:
        let_go()
