"""Cancellations that got lost on their way."""

import asyncio


def heed() -> None:
    """Raise `CancelledError` if this task was cancelled and somebody has swallowed that.

    To be called in every loop without end that awaits a client. Python 3.11's `asyncio.wait_for` drops a cancellation
    that arrives in the same turn as the result or error it waits for (python/cpython issue 86296, mended in 3.12), and
    clients use it: a MongoDB that dies fails one task of a group and the write of another at the same moment, the
    driver repeats the write as if nothing had been asked, and the group waits for the second task for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
