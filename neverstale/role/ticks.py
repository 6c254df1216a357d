"""When a process that rests wakes up for what it does again and again: for all of it at once.

To wake up costs more than most of what is done then: 100 microseconds of CPU for each of twenty tasks that wake
separately, 12 for each where they wake together. So who waits for about a second waits until a tick that others wait
for, too. A process has ticks of its own, lest all that run on one machine wake at the same moment.
"""

import asyncio
import math
import os
from typing import Final

LONGEST_SECONDS: Final = 0.5
"""Between two ticks."""
SHORTEST_SECONDS: Final = 0.125
"""Who waits for less than two of these does not wait for a tick."""
EARLY_SECONDS: Final = 0.005
"""Who wakes up by so much before a tick, since timers are not exact, is not to wake up once more for it."""
_GOLDEN: Final = 0.618034


def until_tick(seconds: float, now: float | None = None) -> float:
    """How long to wait instead: until the last tick that comes within this time. At least half as long, and later by
    at most `EARLY_SECONDS`. `now`: default: by the clock of the running event loop.

    What is done each second, this way, is done each second, however long it takes.
    """
    if not 2 * SHORTEST_SECONDS <= seconds < math.inf:
        return seconds
    grid = min(LONGEST_SECONDS, 2.0 ** (math.frexp(seconds)[1] - 2))
    now = asyncio.get_running_loop().time() if now is None else now
    shift = round(os.getpid() * _GOLDEN % 1, 3)
    tick = math.floor((now - shift + seconds + EARLY_SECONDS) / grid) * grid + shift
    return tick - now
