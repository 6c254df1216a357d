"""The exhaustive search: nothing stale is ever served, and every rule is needed for that.

What is claimed, who takes which steps, and how the state space is kept small is said in `protocol_model`.
`NEVERSTALE_TEST_SEARCH=full` adds the large bounds. With `-s` each search prints its size.
"""

import re
from dataclasses import dataclass, field

import pytest

from neverstale.redis.scripts import Name
from tests.properties.protocol_model import Bounds, Protocol, Rules
from tests.properties.search import Found, explore
from tests.support.forms import FULL
from tests.support.lua_redis import patched
from tests.support.project import ROOT

DOC = ROOT / "docs" / "protocol.md"

SEARCHES = {
    "crowd": Bounds(changes=3, readers=3, refreshers=1),
    "floors": Bounds(changes=2, readers=2, refreshers=1, floors=True),
    "lost registers": Bounds(changes=2, readers=1, claimants=1),
    "lost registers, two claimants": Bounds(changes=1, readers=2, claimants=2),
    "lost registers, refresh, floors": Bounds(changes=1, readers=1, refreshers=1, claimants=1, floors=True),
    "failover": Bounds(changes=2, readers=1, failovers=True),
    "failover, refresh, floors": Bounds(changes=1, readers=1, refreshers=1, floors=True, failovers=True),
}
LARGE = {
    "crowd, floors": Bounds(changes=3, readers=3, refreshers=1, floors=True),
    "lost registers, two readers": Bounds(changes=2, readers=2, claimants=1),
    "lost registers, refresh": Bounds(changes=2, readers=2, refreshers=1, claimants=1),
    "lost registers, floors": Bounds(changes=2, readers=2, claimants=1, floors=True),
    "lost registers, three changes": Bounds(changes=3, readers=2, claimants=1),
    "lost registers, two claimants, two changes": Bounds(changes=2, readers=2, claimants=2),
    "failover, two readers": Bounds(changes=2, readers=2, failovers=True),
    "failover, three changes": Bounds(changes=3, readers=2, failovers=True),
}
ALL = SEARCHES | LARGE
FEW_STEPS = 12


@dataclass(frozen=True)
class Dropped:
    """A protocol that lacks one rule: of the actors, or by a patch of a shipped script."""

    bounds: Bounds
    rules: Rules = field(default_factory=Rules)
    patch: tuple[Name, str, str] | None = None

    def protocol(self) -> Protocol:
        if self.patch is None:
            return Protocol(self.bounds, self.rules)
        name, old, new = self.patch
        return Protocol(self.bounds, self.rules, {name: patched(name, old, new)})


PAIR = Bounds(changes=2, readers=2, refreshers=1)
LOSSES = Bounds(changes=2, readers=2, claimants=1)

DROPPED = {
    "token: anybody may fill": Dropped(
        PAIR, patch=("fill", "if string.sub(header, 36, 51) ~= token then", "if false then")
    ),
    "version: a fill may be older than the change": Dropped(
        PAIR, patch=("fill", "if state == 'S' and version < held then", "if false then")
    ),
    "version: a fill may be older than the value": Dropped(
        PAIR, patch=("fill", "elseif version <= held then", "elseif false then")
    ),
    "presence: a fill creates a missing entry": Dropped(
        PAIR,
        patch=(
            "fill",
            "    return 'missing'",
            "    header = 'L0-' .. NONE .. NONE .. token .. string.rep('0', 13) .. string.rep('d', 16) .. NONE",
        ),
    ),
    "applied: readers read at any version": Dropped(PAIR, Rules(readers_keep_to_applied=False)),
    "applied: readers fetch it before their lease": Dropped(PAIR, Rules(applied_is_fetched_after_the_lease=False)),
    "applied: consumers raise it after invalidating": Dropped(
        PAIR, Rules(applied_is_raised_before_invalidating=False)
    ),
    "applied: unknown counts as zero": Dropped(LOSSES, Rules(unknown_applied_is_not_zero=False)),
    "raise: a register may fall": Dropped(PAIR, patch=("raise", "if held < version then", "if true then")),
    "raise: it creates a missing register": Dropped(
        LOSSES, patch=("raise", "    answers[i] = '-'", "    redis.call('SET', key, version) answers[i] = 'k'")
    ),
    "raise: forgotten while a claim is pending": Dropped(
        LOSSES, patch=("raise", "redis.call('SETRANGE', key, 18, version)", "")
    ),
    "invalidate: a lease does not learn of the change": Dropped(
        PAIR, patch=("invalidate", "redis.call('SETRANGE', key, 0, 'S0-' .. version)", "")
    ),
    "invalidate: a late one lowers what a stale entry waits for": Dropped(
        PAIR, patch=("invalidate", "if held < version then", "if true then")
    ),
    "invalidate: a late one voids a newer value": Dropped(
        PAIR, patch=("invalidate", "if held >= version then", "if false then")
    ),
    "floor: not looked at": Dropped(
        Bounds(changes=2, readers=2, floors=True),
        patch=("lease", "if version >= floor and ours then", "if ours then"),
    ),
    "floor: unknown counts as zero": Dropped(
        Bounds(changes=1, readers=1, claimants=1, floors=True), Rules(unknown_floor_is_not_zero=False)
    ),
    "claim: establish without one": Dropped(
        LOSSES,
        patch=(
            "establish",
            "if held and string.sub(held, 1, 18) == '?' .. ARGV[1] .. ':' then",
            "held = held or '' if true then",
        ),
    ),
    "claim: somebody else's will do": Dropped(
        Bounds(changes=1, readers=1, claimants=2),
        patch=("establish", "string.sub(held, 1, 18) == '?' .. ARGV[1] .. ':'", "string.sub(held, 1, 1) == '?'"),
    ),
    "claim: what was raised meanwhile is ignored": Dropped(
        LOSSES, patch=("establish", "raised > ARGV[2] and raised or ARGV[2]", "ARGV[2]")
    ),
    "claim: the time was asked before": Dropped(LOSSES, Rules(time_is_asked_after_the_claim=False)),
    "failover: what was applied to another Redis counts": Dropped(
        Bounds(changes=1, readers=1, failovers=True), Rules(redis_says_what_was_applied_to_it=False)
    ),
}


def report(name: str, found: Found) -> None:
    end = f"broken after {len(found.trace)} steps" if found.trace else "no violation"
    print(f"\n{name}: {found.states:,} states, {found.transitions:,} steps, {end}")


@pytest.mark.timeout(0 if FULL else 120)
@pytest.mark.parametrize("name", ALL if FULL else SEARCHES)
def test_no_reachable_state_serves_what_an_applied_change_made_stale(name: str) -> None:
    found = explore(Protocol(ALL[name]))
    report(name, found)
    assert found.trace is None, "\n".join(found.trace or ())
    assert stated(name) == found.states, f"docs/protocol.md does not state that {name!r} has {found.states:,} states"


@pytest.mark.parametrize("rule", DROPPED)
def test_without_any_single_rule_something_stale_is_served_within_a_few_steps(rule: str) -> None:
    found = explore(DROPPED[rule].protocol())
    report(rule, found)
    assert found.trace is not None
    print("  " + "\n  ".join(found.trace))
    assert len(found.trace) <= FEW_STEPS


def test_a_patch_that_does_not_apply_is_an_error() -> None:
    with pytest.raises(AssertionError):
        patched("fill", "no such line", "")


def stated(name: str) -> int | None:
    """How many states the page on the protocol says that a search has."""
    row = re.search(rf"^\| {re.escape(name)} \|.*\| ([\d,]+) \|$", DOC.read_text("utf-8"), re.MULTILINE)
    return int(row[1].replace(",", "")) if row else None
