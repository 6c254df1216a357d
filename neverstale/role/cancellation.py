"""Cancellations that got lost on their way."""

import asyncio


def heed() -> None:
    """Raise `CancelledError` if this task was cancelled and somebody has swallowed that.

    To be called in every loop without end that awaits a client. Python 3.11's `asyncio.wait_for` drops a cancellation
    that arrives in the same turn as the outcome it waits for (https://github.com/python/cpython/issues/86296, mended
    in 3.12), and clients use it. So when MongoDB dies, the read of one task of a group fails at the same moment as
    the write of another; the driver repeats that write as if nothing had happened, and the group waits for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
