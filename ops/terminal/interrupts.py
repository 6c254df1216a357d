"""Ctrl-C as an event, for commands that have something to say or to undo before they end."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts() -> Iterator[asyncio.Event]:
    """Set by the first Ctrl-C; the second one ends the process as ever."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def interrupted() -> None:
        event.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        yield event
    finally:
        loop.remove_signal_handler(signal.SIGINT)
