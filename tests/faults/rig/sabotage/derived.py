"""Deriving lists, counters and rankings."""

from typing import Any

from tests.faults.rig.sabotage.rules import Patches, replaced, rule, script_changed


@rule("half of what is derived from is read as early as it may be")
def _lagging_reads() -> Patches:
    """Not a control but a fault: a member that lags behind as far as it is allowed to answers."""
    import random

    from neverstale.mongodb.loader import Loader

    find, dice = Loader._find, random.Random(1)

    async def lagging(self: Loader, collection: str, keys: Any, projection: Any, concern: dict[str, Any]) -> Any:
        if "afterClusterTime" in concern and dice.random() < 0.5:
            concern = {"level": "snapshot", "atClusterTime": concern["afterClusterTime"]}
        return await find(self, collection, keys, projection, concern)

    yield replaced("neverstale.mongodb.loader:Loader._find", lagging)


@rule("INCR instead of contributions")
def _incr() -> Patches:
    """Inserts add one and deletes take one away as often as they are told."""
    from neverstale.derived.contributions import Contribution
    from neverstale.derived.plan import Plan

    class Counted(Plan):
        told = False

        def _add(self, key: str, said: Any, held: bytes, observed: Any) -> None:
            operations = [one.operation for one in said]
            self.told = not {"insert", "delete"}.isdisjoint(operations)
            super()._add(key, said, held, observed)
            self.told = False
            for operation in operations:
                if operation == "insert" and observed is not None:
                    self.differ(key, None, observed)
                elif operation == "delete" and held:
                    self.differ(key, Contribution.unpack(held).facts, None)

        def differ(self, key: str, before: Any, after: Any) -> None:
            if not self.told:
                super().differ(key, before, after)

    yield replaced("neverstale.consumers.derived.derive:Plan", Counted)


@rule("a contribution and what it changes are not one step")
def _two_steps() -> Patches:
    """The contribution is stored; of what it changes in counts, sums and scores one of three calls is lost."""
    from itertools import count

    from neverstale.derived.plan import Plan

    changes, calls = Plan._changes, count()

    def lossy(self: Plan) -> list[Any]:
        return [] if next(calls) % 3 == 0 else changes(self)

    yield replaced("neverstale.derived.plan:Plan._changes", lossy)


@rule("tags of stored groups are not raised")
def _stored_groups_stay() -> Patches:
    yield replaced("neverstale.derived.plan:Plan._left", lambda *_: ())


@rule("tags of named groups are not raised")
def _named_groups_stay() -> Patches:
    yield replaced("neverstale.derived.plan:Plan._named", lambda *_: ())


@rule("tags are raised to s alone")
def _tags_to_s() -> Patches:
    yield replaced("neverstale.derived.plan:tag_version", lambda read_at, _: read_at)


@rule("any contribution takes the place of any other")
def _no_version_check() -> Patches:
    """Neither is the stored one compared with what was fetched, nor its version with the read's: each of the two
    makes up for the other."""
    yield replaced("neverstale.derived.plan:replaces", lambda *_: True)
    yield script_changed(
        "contribute", ("if (redis.call('HGET', key(i), ARGV[i + 1]) or '') ~= ARGV[i + 2] then", "if false then")
    )


@rule("any read may create a contribution")
def _any_read_creates() -> Patches:
    yield script_changed("contribute", ("if begun and version < begun then", "if false then"))
