"""31: each right of each role that runs is taken away, one at a time, on servers that let nobody in without one.

The table is read out of `neverstale.ops.privileges`: a right that is added there is taken away here. A role starts
without it and comes to all that it may ever come to (tests.worlds.lacking_moments); then it says what lacks and the
remedy. A right without which it works all the same is needed by nobody, and is to be taken out of the list. Given
back, everything goes on, and all figures are true. What it takes to be let in at all (certificates, passwords,
authorities) is taken away by tests/integration/secure, which also tries the operator's rights with all commands.
"""

from collections.abc import Iterator
from typing import Final

from neverstale.role import telemetry
from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.worlds.lacking import Right, rights
from tests.worlds.lacking_roles import STEADY, Lacking
from tests.worlds.secured import Servers
from tests.worlds.secured_pipeline import Place

log = telemetry.logger(__name__)

UNSAID: Final = "rights whose lack was not said"
HUNG: Final = "roles or requests that hung"
WITHOUT_REMEDY: Final = "refusals without a remedy"
NOT_WELL: Final = "not well again"


async def taken_away(turn: Turn) -> Outcome:
    outcome = Outcome()
    servers = Servers(turn.bench.data / turn.bench.name("secured"))
    try:
        await servers.start()
        place = await Place.on(servers)
        async with Lacking.of(place) as world:
            for right in _chosen(place, turn):
                finding = await world.without(right)
                log.info("taken_away", finding=str(finding))
                outcome.tally(HUNG).note(bool(finding.hung), str(finding))
                outcome.tally(UNSAID).note(not finding.said, str(finding))
                if finding.said:
                    outcome.tally(WITHOUT_REMEDY).note(not finding.remedied, str(finding))
                    outcome.recovery.append(finding.seconds)
                outcome.tally(NOT_WELL).note(bool(finding.unwell), str(finding))
                outcome.count("said" if finding.said else "not needed" if finding.works else "silent")
    finally:
        servers.kill()
    return outcome


def _chosen(place: Place, turn: Turn) -> Iterator[Right]:
    """All of the roles that run; of a control, those that it is about."""
    for right in rights(place):
        if right.role in STEADY and (turn.rule is None or (right.role, right.server) == ("watcher", "mongodb")):
            yield right


EXPERIMENTS = (
    Experiment(
        number="31",
        fault="each right of each role is taken away, one at a time",
        holds="it is said with its remedy, nothing hangs, and given back it goes on",
        run=taken_away,
        controls={"what a server refuses is an outage": UNSAID},
        short=0,  # its short form is tests/integration/secure/test_taken_away.py
        long=1,
    ),
)
