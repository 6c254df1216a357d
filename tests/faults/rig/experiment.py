"""What an experiment is: a fault, an oracle's tallies, and a negative control that must find what the fault could do.

`run` is called twice: as it is, where every tally must be without a wrong one, and with one rule of ours taken
away (see `tests.faults.rig.sabotage`), where the tally that this rule guards must not be.
"""

import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final

from neverstale.ops.truth.oracle import EXAMPLES, Judgement, Tally
from tests.faults.rig.bench import Bench

STALE: Final = "stale after convergence"
BOUND: Final = "broke their bound"
LATE: Final = "not converged"
"""All that was written should have been applied, and was not."""
FOREIGN: Final = "foreign"
UNWRITTEN: Final = "never written"
BROKE: Final = "broke off"
"""The experiment itself."""


@dataclass
class Outcome:
    """What one run has found."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    """What must not happen -> wrong of checked."""
    staleness: list[float] = field(default_factory=list)
    """Seconds from the acknowledgement of a write that some read missed to the last such read."""
    recovery: list[float] = field(default_factory=list)
    """Seconds from the end of a fault until a later write had been applied."""
    figures: dict[str, float] = field(default_factory=dict)
    """Whatever else is worth telling: 5xx, MongoDB reads per API read, ..."""

    def tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally())

    def add(self, name: str, found: Tally) -> None:
        into = self.tally(name)
        into.wrong += found.wrong
        into.checked += found.checked
        into.examples += found.examples

    def take(self, verdict: Judgement) -> None:
        """What readers were told under load."""
        self.add(BOUND, verdict.violated_bounds)
        self.add(FOREIGN, verdict.foreign)
        self.add(UNWRITTEN, verdict.unwritten)
        self.staleness += verdict.staleness.values()
        self.count("answers without a bound", verdict.unknown_bounds)

    def count(self, name: str, by: float = 1) -> None:
        self.figures[name] = self.figures.get(name, 0) + by

    @property
    def clean(self) -> bool:
        return not any(tally.wrong for tally in self.tallies.values())

    @property
    def checked(self) -> int:
        return sum(tally.checked for tally in self.tallies.values())


@dataclass(frozen=True, slots=True)
class Turn:
    """How one run is to be made."""

    bench: Bench
    rounds: int
    seed: int
    rule: str | None = None
    """The rule that is taken away; `None`: all hold."""
    enough: str | None = None
    """One wrong of this tally is enough: there need be no further round."""

    def each_round(self, outcome: Outcome) -> Iterator[int]:
        for number in range(self.rounds):
            yield number
            if self.has_found(outcome):
                return

    def has_found(self, outcome: Outcome) -> bool:
        """A control has found what it must: nothing more need be looked for."""
        return self.enough is not None and outcome.tally(self.enough).wrong > 0

    @property
    def random(self) -> random.Random:
        return random.Random(self.seed)


Run = Callable[[Turn], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Experiment:
    number: str
    fault: str
    """What is injected."""
    holds: str
    """What must hold nevertheless."""
    run: Run
    controls: Mapping[str, str]
    """Rule that is taken away -> the tally that must then find something wrong."""
    short: int
    """Rounds in CI; 0: it has no time for it."""
    long: int
    """Rounds of `make faults ROUNDS=1`; more rounds multiply it."""
    long_controls: Collection[str] = ()
    """Controls that CI has no time for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report."""

    experiment: Experiment
    seed: int
    rule: str | None
    outcome: Outcome
    seconds: float

    @property
    def passed(self) -> bool:
        """As it is: something was checked and nothing was wrong. A control: it has found what it must find."""
        if self.rule is None:
            return self.outcome.clean and self.outcome.checked > 0
        return self.outcome.tally(self.experiment.controls[self.rule]).wrong > 0

    @property
    def examples(self) -> list[str]:
        return [sentence for tally in self.outcome.tallies.values() for sentence in tally.examples[:EXAMPLES]]

    def as_json(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment.number,
            "fault": self.experiment.fault,
            "control": self.rule,
            "seed": self.seed,
            "passed": self.passed,
            "tallies": {
                name: {"k": tally.wrong, "n": tally.checked, "at_most": tally.at_most, "examples": tally.examples}
                for name, tally in self.outcome.tallies.items()
            },
            "staleness_seconds": percentiles(self.outcome.staleness),
            "recovery_seconds": percentiles(self.outcome.recovery),
            "figures": self.outcome.figures,
            "seconds": round(self.seconds, 1),
        }

    def as_text(self) -> str:
        found = "; ".join(
            f"{what} {tally.wrong:,} of {tally.checked:,}" for what, tally in self.outcome.tallies.items()
        )
        who = f"control: {self.rule}" if self.rule else "holds"
        verdict = "ok  " if self.passed else "FAIL"
        line = f"{verdict} {self.experiment.number:>3}  {who:<42} {found}  (seed {self.seed}, {self.seconds:.1f} s)"
        more = [f"{name} {value:,.4g}" for name, value in self.outcome.figures.items()]
        for name, seconds in (("staleness", self.outcome.staleness), ("recovery", self.outcome.recovery)):
            if seconds:
                three = "/".join(f"{value:.3f}" for value in percentiles(seconds).values())
                more.append(f"{name} p50/p99/max {three} s")
        return f"{line}\n{' ' * 10}{' · '.join(more)}" if more else line


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    values = sorted(seconds)
    if not values:
        return {}
    cuts = quantiles(values, n=100, method="inclusive") if len(values) > 1 else values * 99
    return {"p50": round(cuts[49], 4), "p99": round(cuts[98], 4), "max": round(values[-1], 4)}
