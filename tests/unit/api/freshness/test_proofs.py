"""Proofs: when MongoDB is asked, who waits for it, and what comes of its answer."""

import asyncio

import pytest

from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.proofs import APART_SECONDS, LATE_SECONDS, PAUSE_SECONDS, YOUNG_SECONDS, Proofs
from neverstale.errors import Outage
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.role.tasks import Tasks
from neverstale.versions import Version
from tests.support.waiting import eventually


class Asked:
    """A process whose clock a test sets, and a MongoDB that answers when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.questions: list[float] = []
        self.begun = asyncio.Event()
        self.answer = asyncio.Event()
        self.answer.set()
        self.version = 100
        self.error: Exception | None = None
        self.clock = PrimaryClock(lambda: self.seconds)
        self.clock.observe(self.seconds, 50_000, self.seconds)
        self.marks = Bounds(self.clock, lambda: self.seconds)
        self.proofs = Proofs(self.now, self.marks, self.clock, Tasks(), lambda: self.seconds)

    async def now(self) -> Version:
        self.questions.append(self.seconds)
        self.begun.set()
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return self.version

    def mark(self) -> None:
        """Consumers tell one that is as young as can be."""
        earliest = self.clock.latest_ms()
        assert earliest is not None
        self.marks.note(self.marks.newest + 1, int(earliest))

    async def settled(self) -> None:
        async def is_so() -> bool:
            return self.proofs._under_way is None

        await eventually(is_so, "the question is answered")

    @property
    def age(self) -> float | None:
        return self.marks.age


@pytest.fixture
async def asked() -> Asked:
    return Asked()


async def test_while_marks_come_nothing_is_asked(asked: Asked) -> None:
    asked.mark()
    for _ in range(20):
        asked.seconds += YOUNG_SECONDS / 2
        asked.mark()
        await asked.proofs.ready()
        asked.proofs.expect()
    assert asked.questions == []


async def test_without_a_mark_a_read_waits_for_its_proof(asked: Asked) -> None:
    await asked.proofs.ready()
    assert asked.proofs.reached == 100
    assert asked.age == pytest.approx(0, abs=0.01)


async def test_all_that_wait_share_one_question(asked: Asked) -> None:
    asked.answer.clear()
    waiting = [asyncio.create_task(asked.proofs.ready()) for _ in range(50)]
    await asked.begun.wait()
    assert len(asked.questions) == 1
    asked.answer.set()
    await asyncio.gather(*waiting)
    assert len(asked.questions) == 1
    assert asked.proofs.reached == 100


async def test_the_age_counts_from_the_question_not_from_its_answer(asked: Asked) -> None:
    asked.answer.clear()
    waiting = asyncio.create_task(asked.proofs.ready())
    await asked.begun.wait()
    asked.seconds += 0.25
    asked.answer.set()
    await waiting
    assert asked.age is not None and asked.age >= 0.25


async def test_what_is_neither_young_nor_late_is_asked_for_and_not_waited_for(asked: Asked) -> None:
    asked.mark()
    asked.seconds += (YOUNG_SECONDS + LATE_SECONDS) / 2
    asked.answer.clear()
    await asked.proofs.ready()
    await asyncio.sleep(0)
    assert len(asked.questions) == 1
    asked.answer.set()
    await asked.settled()
    assert asked.age is not None and asked.age < YOUNG_SECONDS


async def test_reads_that_come_all_the_time_ask_at_a_pace(asked: Asked) -> None:
    for _ in range(1000):
        asked.seconds += 0.005
        await asked.proofs.ready()
        await asyncio.sleep(0)
    gaps = [later - earlier for earlier, later in zip(asked.questions, asked.questions[1:], strict=False)]
    assert len(asked.questions) <= 1000 * 0.005 / YOUNG_SECONDS + 1
    assert min(gaps) >= APART_SECONDS


async def test_after_a_question_that_failed_nobody_waits_until_one_succeeds(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.error = Outage("mongodb", "test")
    await asked.proofs.ready()
    assert asked.age is None
    asked.answer.clear()
    await asked.proofs.ready()
    assert len(asked.questions) == 1
    asked.seconds += PAUSE_SECONDS + 0.01
    await asked.proofs.ready()  # asks again, and leaves
    await asyncio.sleep(0)
    assert len(asked.questions) == 2
    asked.error = None
    asked.answer.set()
    await asked.settled()
    asked.seconds += 1
    asked.version = 200
    await asked.proofs.ready()
    assert asked.proofs.reached == 200


async def test_a_question_without_an_answer_is_not_waited_for_long(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neverstale.api.freshness.proofs.PATIENCE_SECONDS", 0.01)
    asked.answer.clear()
    async with asyncio.timeout(5):
        await asked.proofs.ready()
    assert asked.age is None
    asked.answer.set()
    await asked.settled()


async def test_an_error_that_nobody_expected_leaves_nobody_waiting(asked: Asked) -> None:
    asked.error = ZeroDivisionError()
    async with asyncio.timeout(5):
        await asked.proofs.ready()
    asked.error = None
    asked.seconds += PAUSE_SECONDS + 0.01
    await asked.proofs.ready()
    await asked.settled()
    assert asked.proofs.reached == 100


async def test_without_a_clock_nothing_is_asked() -> None:
    asked = Asked()
    asked.clock = PrimaryClock()
    asked.proofs = Proofs(asked.now, Bounds(asked.clock), asked.clock, Tasks())
    await asked.proofs.ready()
    assert asked.questions == []
