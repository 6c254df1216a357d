"""Something of a pipeline in cells is frozen: what lies elsewhere keeps its bounds."""

import asyncio
import time
from collections.abc import Collection
from typing import Final

from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.ops.http_client import Connection
from tests.faults.rig.experiment import Outcome
from tests.faults.rig.load import Load
from tests.faults.rig.pipeline import RESOURCE

PARTITIONS: Final = 4
AGED: Final = "of what is not frozen, older than two seconds by their own bound"
OLDEST: Final = "oldest of what is not frozen, by its own bound"
OLD_SECONDS: Final = 2.0
SETTLED_SECONDS: Final = 5.5
"""A consumer gives up on a node after two seconds, and leaves its cells behind. Answers of one process share what
vouches for them; what is more than two seconds behind, counted in whole ones, has no part in that: so after three."""
ASKED_SECONDS: Final = 2.5
KEYS: Final = 40


async def others_keep_their_bounds(
    load: Load, outcome: Outcome, frozen: Collection[int], *headers: str, partitions: int = PARTITIONS
) -> None:
    """Ask for some keys for a while; those of other partitions must state bounds as if nothing were frozen."""
    connection = await Connection.open(load.urls[0])
    until = time.monotonic() + ASKED_SECONDS
    while time.monotonic() < until:
        for key in range(KEYS):
            partition = partition_of(record_key(load.pipeline.name, RESOURCE, f"i:{key}"), partitions)
            answer = await load.ask(connection, key, load.shape.readers, *headers)
            if answer is None or partition in frozen or "hit" not in answer.headers.get("cache-status", ""):
                continue
            bound = answer.headers["neverstale-bound"]
            outcome.tally(AGED).note(bound == "unknown" or float(bound) > OLD_SECONDS, key, bound)
            if bound != "unknown":
                outcome.figures[OLDEST] = max(outcome.figures.get(OLDEST, 0.0), float(bound))
        await asyncio.sleep(0)
    connection.close()
