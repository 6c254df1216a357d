"""Conducting an experiment: one run, with a rule taken away or not, timed."""

import time
import traceback

from tests.faults.bench import Bench
from tests.faults.experiment import BROKE, Experiment, Outcome, Row, Turn
from tests.faults.sabotage import without


async def conduct(experiment: Experiment, bench: Bench, rounds: int, seed: int, rule: str | None) -> Row:
    """Run it once and say what was found."""
    started = time.monotonic()
    try:
        with without(rule):
            outcome = await experiment.run(Turn(bench, rounds, seed, rule))
    except Exception as error:
        # One that breaks must not keep the others from being run; nor may it pass for one that held.
        traceback.print_exception(error)
        outcome = Outcome()
        outcome.tally(BROKE).note(True, repr(error))
    return Row(experiment, seed, rule, outcome, time.monotonic() - started)
