"""The exhaustive search of derived data: nothing derived misses an applied change, and every rule is needed for it.

What is claimed, who takes which steps, and how the state space is kept small is said in `derived_model` (one
generation) and `rebuild_model` (a new one, from its claim to its use). `NEVERSTALE_TEST_SEARCH=full` adds the large
bounds. With `-s` each search prints its size, and each rule that was dropped the way to what then goes wrong.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest

from neverstale.derived import plan
from neverstale.derived.contributions import Contribution
from neverstale.derived.facts import Facts
from neverstale.derived.plan import Plan, Said
from neverstale.derived.tagged import Tagged
from neverstale.redis.scripts import Name
from tests.properties import derived_model, rebuild_model
from tests.properties.derived_model import DerivedProtocol
from tests.properties.derived_world import Documents, Rules, Story, World, stories
from tests.properties.rebuild_model import Order, RebuildProtocol
from tests.properties.search import Found, explore
from tests.support.forms import FULL
from tests.support.lua_redis import patched
from tests.support.project import ROOT

DOC = ROOT / "docs" / "derived.md"
FEW_STEPS = 12

A, B, C = ({"o": o, "x": 1} for o in "ABC")
A2, B2 = ({"o": o, "x": 2} for o in "AB")
FOUR = tuple({"o": o, "d": d, "x": 1} for o in "AB" for d in "12")

MOVES = Documents((A, None, B, C), changes=3, alike=frozenset((2, 3)))
UNKNOWN = Documents((A, None, B, C), changes=2, touches=1, alike=frozenset((2, 3)))
COMPOUND = Documents((*FOUR, None), changes=3, by=("o", "d"))
OUTSIDE = tuple({"o": "A", "w": 0, "x": x} for x in (1, 2))
INSIDE = tuple({"o": o, "w": 1, "x": 2} for o in "AB")
CONSTANT = Documents((*OUTSIDE, *INSIDE, None), changes=3, where={"w": 1})
UNSHOWN = Documents((A, A2, B, B2, None), changes=3, shown=())
FEW = Documents((A, None, B), changes=2)
ONE = Documents((A, None, B), changes=1)

ESTABLISHED = derived_model.Bounds()
WALKED = derived_model.Bounds(stored=False)
EARLY = derived_model.Bounds(fetched_early=True)
LOSSES = derived_model.Bounds(losses=1)

Bounds = derived_model.Bounds | rebuild_model.Bounds
FROM_NOTHING = rebuild_model.Bounds()
BESIDE = rebuild_model.Bounds(beside_another=True)

SEARCHES: dict[str, tuple[Documents, Bounds]] = {
    "four changes": (Documents((A, None, B, C), changes=4, alike=frozenset((2, 3))), ESTABLISHED),
    "four changes, first absent": (Documents((None, A, B, C), changes=4, alike=frozenset((1, 2, 3))), ESTABLISHED),
    "fields that pages show": (Documents((A, A2, None, B), changes=3), ESTABLISHED),
    "fields that no page shows": (UNSHOWN, ESTABLISHED),
    "lists by two fields": (COMPOUND, ESTABLISHED),
    "lists with a constant": (CONSTANT, ESTABLISHED),
    "a walk that has not passed": (UNKNOWN, WALKED),
    "contributions fetched early": (FEW, EARLY),
    "Redis loses a key": (FEW, LOSSES),
    "rebuild from nothing": (ONE, FROM_NOTHING),
    "rebuild beside another": (Documents((None, A, B), changes=1), BESIDE),
}
LARGE: dict[str, tuple[Documents, Bounds]] = {
    "a walk, three changes": (Documents((A, None, B, C), changes=3, touches=1, alike=frozenset((2, 3))), WALKED),
    "Redis loses two keys": (FEW, derived_model.Bounds(losses=2)),
    "rebuild from nothing, two changes": (Documents((None, A), changes=2), FROM_NOTHING),
    "rebuild beside another, two changes": (Documents((A, None), changes=2), BESIDE),
    "rebuild, two moves, delivered once": (FEW, rebuild_model.Bounds(delivered_again=False)),
}
ALL = SEARCHES | LARGE


class StoredGroupsStay(Plan):
    def _left(self, one: Tagged, before: Facts | None, after: Facts | None, touched: bool) -> tuple[str, ...] | None:
        return ()


class UntouchedMovesStay(Plan):
    def _left(self, one: Tagged, before: Facts | None, after: Facts | None, touched: bool) -> tuple[str, ...] | None:
        return super()._left(one, before, after, touched) if touched else ()


class NamedGroupsStay(Plan):
    def _named(
        self, one: Tagged, place: int, said: Sequence[Said], stored: Contribution | None, before: Facts | None
    ) -> tuple[str, ...] | None:
        return ()


class EnteredGroupsStay(Plan):
    """Events that change nothing but whether a document holds the list's constants."""

    def _named(
        self, one: Tagged, place: int, said: Sequence[Said], stored: Contribution | None, before: Facts | None
    ) -> tuple[str, ...] | None:
        names = [record for record in said if self._shape.effects(record.fields).tagged[place].named]
        return super()._named(one, place, names, stored, before)


class UnknownGroupsStay(Plan):
    def _inserted(self, first: Said) -> bool:
        return True


def always(*_: object) -> bool:
    return True


@dataclass(frozen=True)
class Dropped:
    """A protocol that lacks one rule: of the plans, the actors, or a shipped script."""

    documents: Documents
    bounds: Bounds = ESTABLISHED
    rules: Rules = field(default_factory=Rules)
    order: Order = field(default_factory=Order)
    script: tuple[Name, str, str] | None = None
    function: tuple[str, Callable[..., object]] | None = None

    def search(self) -> Found:
        name, old, new = self.script or ("contribute", "", "")
        scripts = {name: patched(name, old, new)} if self.script else {}
        replaced, function = self.function or ("replaces", plan.replaces)
        with patch.object(plan, replaced, function):
            return search(self.documents, self.bounds, self.rules, self.order, scripts)


NO_MARK = "if redis.call('HEXISTS', KEYS[place], PRESENT) == 0 then"

DROPPED = {
    "tags: the stored group is not raised": Dropped(MOVES, rules=Rules(plan=StoredGroupsStay)),
    "tags: the groups that events name are not raised": Dropped(MOVES, rules=Rules(plan=NamedGroupsStay)),
    "tags: raised to s alone": Dropped(MOVES, function=("tag_version", lambda read_at, _: read_at)),
    "tags: raised to the stored version alone": Dropped(MOVES, function=("tag_version", lambda _, stored: stored)),
    "tags: a group that nobody knows is not raised": Dropped(UNKNOWN, WALKED, Rules(plan=UnknownGroupsStay)),
    "tags: a move that no event of the batch tells of": Dropped(UNSHOWN, rules=Rules(plan=UntouchedMovesStay)),
    "tags: a newer contribution tells what an event does not name": Dropped(COMPOUND, function=("completes", always)),
    "tags: the groups that a document comes into by a constant are not raised": Dropped(
        CONSTANT, rules=Rules(plan=EnteredGroupsStay)
    ),
    "tags: a newer contribution tells where a document held the constant": Dropped(
        CONSTANT, function=("completes", always)
    ),
    "version: an older read replaces a newer one": Dropped(MOVES, function=("replaces", always)),
    "compare: a contribution that has changed is replaced": Dropped(
        FEW,
        EARLY,
        script=(
            "contribute",
            "if (redis.call('HGET', key(i), ARGV[i + 1]) or '') ~= ARGV[i + 2] then",
            "if false then",
        ),
    ),
    "creation: by a read older than the partition's register": Dropped(
        MOVES, script=("contribute", "if begun and version < begun then", "if false then")
    ),
    "creation: the register is not raised": Dropped(
        MOVES, script=("begin", "redis.call('HSET', KEYS[1], ARGV[1], begun)", "")
    ),
    "INCR for each event instead of contributions": Dropped(MOVES, rules=Rules(differences_of_contributions=False)),
    "lost: readers take a missing hash for an empty one": Dropped(FEW, LOSSES, Rules(lost_is_unknown=False)),
    "lost: consumers take a missing hash for an empty one": Dropped(
        FEW, LOSSES, script=("contribute", NO_MARK, "if false then")
    ),
    "generation: contributions for another register": Dropped(
        ONE,
        FROM_NOTHING,
        script=("contribute", "if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then", "if false then"),
    ),
    "generation: its birth was asked for before the claim": Dropped(
        ONE, FROM_NOTHING, order=Order(time_is_asked_after_the_claim=False)
    ),
    "generation: reads older than its birth": Dropped(ONE, FROM_NOTHING, order=Order(reads_from_the_birth_on=False)),
    "generation: the walk begins before the birth is written": Dropped(
        ONE, FROM_NOTHING, order=Order(walk_begins_after_the_birth_is_written=False)
    ),
    "generation: complete before the walk is applied": Dropped(
        ONE, FROM_NOTHING, order=Order(complete_when_applied=False)
    ),
}


def search(
    documents: Documents,
    bounds: Bounds,
    rules: Rules | None = None,
    order: Order | None = None,
    scripts: dict[Name, str] | None = None,
) -> Found:
    """All stories; up to the first that breaks the claim."""
    world, states, transitions = World(documents, rules, scripts), 0, 0
    for story in stories(documents):
        world.tell(story)
        if isinstance(bounds, derived_model.Bounds):
            found = explore(DerivedProtocol(world, bounds))
        else:
            found = explore(RebuildProtocol(world, bounds, order))
        states, transitions = states + found.states, transitions + found.transitions
        if found.trace is not None:
            return Found(states, transitions, (told(documents, story), *found.trace))
    return Found(states, transitions, None)


def told(documents: Documents, story: Story) -> str:
    was = [documents.all[i] for i in story.history]
    return "the document is " + ", then ".join("absent" if one is None else str(dict(one)) for one in was)


def report(name: str, found: Found) -> None:
    end = f"broken after {len(found.trace) - 1} steps" if found.trace else "no violation"
    print(f"\n{name}: {found.states:,} states, {found.transitions:,} steps, {end}")


@pytest.mark.timeout(0 if FULL else 120)
@pytest.mark.parametrize("name", ALL if FULL else SEARCHES)
def test_no_reachable_state_hides_an_applied_change(name: str) -> None:
    found = search(*ALL[name])
    report(name, found)
    assert found.trace is None, "\n".join(found.trace or ())
    assert stated(name) == found.states, f"docs/derived.md does not state that {name!r} has {found.states:,} states"


@pytest.mark.parametrize("rule", DROPPED)
def test_without_any_single_rule_an_applied_change_is_missed_within_a_few_steps(rule: str) -> None:
    found = DROPPED[rule].search()
    report(rule, found)
    assert found.trace is not None
    print("  " + "\n  ".join(found.trace))
    assert len(found.trace) <= FEW_STEPS


def stated(name: str) -> int | None:
    """How many states the page on derived data says that a search has."""
    row = re.search(rf"^\| {re.escape(name)} \|.*\| ([\d,]+) \|$", DOC.read_text("utf-8"), re.MULTILINE)
    return int(row[1].replace(",", "")) if row else None
