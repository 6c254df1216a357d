"""What is read from MongoDB for a group and kept as entries, for which tags vouch: which tags a change may concern.

Pages of lists are such, and look-ups. What a change raises is in `neverstale.derived.plan`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neverstale.derived.facts import Facts, Pick
from neverstale.derived.groups import combinations, meets
from neverstale.derived.kinds.kept import Kept
from neverstale.derived.redis_names import GenerationNames


@dataclass(frozen=True, slots=True)
class Tagged(Kept):
    """One list or look-up of a generation."""

    name: str
    by: Pick
    by_paths: tuple[str, ...]
    member: int | None
    """Place of the fact that says whether a document holds the constants; `None`: every document does."""
    used: frozenset[str] | None
    """Paths whose change can change an entry; `None`: all."""
    constants: tuple[str, ...]
    """Paths that its constants are compared with."""
    seen: Pick
    """All facts that it depends on."""

    def hash(self, names: GenerationNames) -> bytes:
        return names.tags(self.name)

    def groups(self, facts: Facts) -> Facts | None:
        """The groups whose entries show a document; `None`: beyond a bound."""
        if self.member is not None and not facts[self.member]:
            return ()
        return combinations(self.by(facts))

    def affected_by(self, changed: Sequence[str] | None) -> bool:
        """Whether a change of these paths (`None`: all) can change an entry."""
        if changed is None or self.used is None:
            return True
        if not self.used.isdisjoint(changed):
            return True
        return any(meets(path, used) for path in changed for used in self.used)

    def named_by(self, changed: Sequence[str] | None) -> tuple[int, ...]:
        """Which of the fields that make groups a change of these paths may have changed."""
        if changed is None:
            return tuple(range(len(self.by_paths)))
        return tuple(i for i, path in enumerate(self.by_paths) if any(meets(field, path) for field in changed))

    def entered_by(self, changed: Sequence[str] | None) -> bool:
        """Whether a change of these paths may have made a document hold the constants: then it has come into the
        groups that it was in, whatever those are."""
        return any(changed is None or any(meets(field, path) for field in changed) for path in self.constants)

    def effect(self, changed: Sequence[str] | None) -> "Effect":
        named, enters = self.named_by(changed), self.entered_by(changed)
        return Effect(self.affected_by(changed), named, enters, names=bool(named) or enters or not self.by_paths)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of some paths means for one of them."""

    touches: bool
    """Entries may show something else."""
    named: tuple[int, ...]
    """Which of the fields that make groups may have changed."""
    enters: bool
    """The document may have come to hold the constants."""
    names: bool
    """Groups that the document may have come into are to be looked for."""


NOTHING: Final = Effect(touches=False, named=(), enters=False, names=False)
"""What a record that is no change means for any of them."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What a change of some paths means."""

    tagged: tuple[Effect, ...]
    """For each that tags vouch for, in order."""
    names: bool
    """For some whose entries it touches, groups that the document may have come into are to be looked for."""
    concern: bool
    """Something derived may change."""
