"""A ranking in Redis and in MongoDB, compared by the number of its members and a digest of all of them with their
scores, which does not depend on their order, so that neither side has to be held in memory."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from neverstale.catalog.declarations import RankingDeclaration
from neverstale.derived.groups import combinations, fact_at
from neverstale.derived.kinds.comparison import A_BATCH, Comparison
from neverstale.derived.queries import Command, Filter, projection
from neverstale.derived.rankings import queries
from neverstale.derived.rankings.held import HeldRankings
from neverstale.derived.rankings.members import member_of
from neverstale.keys import canonical


@dataclass(frozen=True, slots=True)
class RankingDrift:
    members: int
    digest: int

    def __str__(self) -> str:
        if self.members < 0:
            return f"a set that does not have the {-self.members} members that it should"
        return f"{self.members} members with scores (digest {self.digest:016x})"


class RankingComparison(Comparison[RankingDrift]):
    nothing = RankingDrift(0, 0)

    def __init__(self, declared: RankingDeclaration, held: HeldRankings, name: str) -> None:
        super().__init__(declared.by, held.key(name), held)
        self._declared = declared
        self._rankings = held
        self._name = name

    async def in_redis(self, only: Collection[str]) -> Mapping[str, RankingDrift]:
        sizes = await self._rankings.sizes(self._name)
        wanted = [group for group in sizes if not only or group in only]
        return {group: await self._ranked(group, sizes[group]) for group in wanted}

    async def _ranked(self, group: str, size: int) -> RankingDrift:
        digest = count = 0
        async for some in self._rankings.members(self._name, group):
            digest += sum(_digest(*one) for one in some)
            count += len(some)
        # A set that was evicted looks like an empty one; its size tells.
        return RankingDrift(count if count == size else -size, digest % 2**64)

    def command(self, collection: str, matching: Filter) -> Command:
        paths = (*self.by, self._declared.path)
        return {"find": collection, "filter": matching, "projection": projection(paths), "batchSize": A_BATCH}

    async def in_mongodb(self, rows: AsyncIterator[dict[str, Any]]) -> Mapping[str, RankingDrift]:
        found: dict[str, RankingDrift] = {}
        async for document in rows:
            score = queries.score_of(self._declared, document)
            if score is not None:
                kept = -score if self._declared.descends else score
                digest = _digest(member_of(canonical(document["_id"])), kept)
                for group in combinations(tuple(fact_at(document, path) for path in self.by)) or ():
                    held = found.get(group, self.nothing)
                    found[group] = RankingDrift(held.members + 1, (held.digest + digest) % 2**64)
        return found


def _digest(member: bytes, score: float) -> int:
    # Zero has two signs.
    return int.from_bytes(blake2b(member + f"\0{score + 0.0!r}".encode(), digest_size=8).digest(), "big")
