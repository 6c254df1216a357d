"""Terms of office: whose marks count."""

from neverstale.consumers.records.batch import Batch, Folding
from neverstale.consumers.records.terms import Terms
from neverstale.kafka.events import Mark
from tests.unit.consumers.records.test_batch import CATALOG, NAMES, Partition, records


class Office:
    """What the lease document says."""

    def __init__(self, *terms: int) -> None:
        self.terms = list(terms)
        self.now = 0.0

    async def newest(self) -> int:
        return self.terms.pop(0)


def folded(folding: Folding, *marks: Mark) -> Batch:
    return folding.fold({Partition("t", 0): records(*marks)})


async def test_a_mark_of_a_term_that_nobody_has_held_is_a_dead_letter_and_silences_none() -> None:
    folding, office = Folding(CATALOG, NAMES, office=0), Office(7, 7)
    terms = Terms(folding, office, lambda: office.now)
    batch = folded(folding, Mark(5, 50, 2, term=9), Mark(6, 60, 2, term=7))
    await terms.settle(batch)
    assert (batch.marks[0].version, [poison.reason for poison in batch.poison]) == (6, ["term"])
    later = folded(folding, Mark(8, 80, 2, term=7))
    assert (later.marks[0].version, later.doubtful) == (8, []), "a term that is confirmed is not asked for again"


async def test_who_was_asked_a_moment_ago_condemns_nobody() -> None:
    folding, office = Folding(CATALOG, NAMES, office=0), Office(7, 9)
    terms = Terms(folding, office, lambda: office.now)
    await terms.settle(folded(folding, Mark(5, 50, 2, term=7)))
    batch = folded(folding, Mark(6, 60, 2, term=9))
    await terms.settle(batch)
    assert (batch.marks, batch.poison, batch.skipped) == ({}, [], {"term_unknown": 1})
    office.now = 2.0
    batch = folded(folding, Mark(7, 70, 2, term=9))
    await terms.settle(batch)
    assert batch.marks[0].version == 7


async def test_where_no_lease_was_ever_taken_nobody_can_be_judged() -> None:
    folding, office = Folding(CATALOG, NAMES, office=0), Office(0)
    batch = folded(folding, Mark(5, 50, 2, term=3))
    await Terms(folding, office, lambda: 0.0).settle(batch)
    assert batch.marks[0].version == 5


def test_a_term_that_is_later_than_the_present_is_one_of_the_future() -> None:
    folding = Folding(CATALOG, NAMES, lambda: 1_000 << 32 | 0xFFFFFFFF)
    batch = folded(folding, Mark(5, 50, 2, term=1_001_000), Mark(5, 1_001_000, 2, term=1))
    assert (batch.marks, [poison.reason for poison in batch.poison]) == ({}, ["version"] * 2)
