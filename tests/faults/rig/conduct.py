"""Conducting an experiment: one run, with a rule taken away or not, timed."""

import time
import traceback
from collections.abc import Iterator

from tests.faults.rig.bench import Bench
from tests.faults.rig.experiment import BROKE, Experiment, Outcome, Row, Turn
from tests.faults.rig.sabotage import without


async def conduct(
    experiment: Experiment, bench: Bench, rounds: int, seed: int, rule: str | None, *, briefly: bool = False
) -> Row:
    """Run it once and say what was found. `briefly`: a control may end when it has found what it must find."""
    started = time.monotonic()
    enough = experiment.controls[rule] if briefly and rule is not None else None
    try:
        with without(rule):
            outcome = await experiment.run(Turn(bench, rounds, seed, rule, enough))
    except Exception as error:
        # One that breaks must not keep the others from being run; nor may it pass for one that held.
        outcome = Outcome()
        with (bench.data / "logs" / "broken.log").open("a") as log:
            traceback.print_exception(error, file=log)
        outcome.tally(BROKE).note(True, *map(repr, _leaves(error)))
    return Row(experiment, seed, rule, outcome, time.monotonic() - started)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
