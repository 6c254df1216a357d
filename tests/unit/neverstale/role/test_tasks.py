"""Tasks: none dies unseen, whatever it dies of."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import repeat
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from neverstale.errors import Outage, Stop
from neverstale.role import service, supervised, telemetry
from neverstale.role.service import Health, Life, run_role
from neverstale.role.supervised import Supervised, part
from neverstale.role.tasks import Ended, cancelled, failed_in, in_words, start
from neverstale.settings import MongoDB, Settings
from tests.support.waiting import eventually


def no_pauses() -> Iterator[float]:
    return repeat(0.005)


def died(name: str) -> float:
    return telemetry.REGISTRY.get_sample_value("neverstale_tasks_died_total", {"task": name}) or 0.0


async def an_error() -> None:
    raise KeyError("odd")


async def a_stop() -> None:
    raise Stop("a human must act")


async def a_group() -> None:
    async with asyncio.TaskGroup() as group:
        start(group, an_error(), "inner")


async def an_end() -> None:
    pass


async def a_cancellation_of_its_own() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (an_error, "KeyError: 'odd'"),
        (a_stop, "Stop: a human must act"),
        (a_group, "KeyError: 'odd'"),
        (an_end, "Ended: it came to its end"),
        (a_cancellation_of_its_own, "Ended: it was cancelled"),
    ],
)
async def test_a_task_that_dies_is_started_again_and_said(ending: Callable[[], Awaitable[None]], words: str) -> None:
    health, lives = Health(), 0
    health.ok("server")
    again = asyncio.Event()

    async def work() -> None:
        nonlocal lives
        lives += 1
        if lives <= 2:
            await ending()
        else:
            again.set()
            await asyncio.get_running_loop().create_future()

    before = died("odd")
    with capture_logs() as logs:
        async with Supervised(health, no_pauses) as beside:
            beside.keep("odd", work)
            assert beside.names == {"odd"}
            await asyncio.wait_for(again.wait(), 5)
            said = health.parts[part("odd")]
            assert said is not None and said.startswith("died 2 times, the last time of ") and words in said
            assert not health.ready
    assert died("odd") == before + 2
    assert [(line["event"], line["task"], line["times"]) for line in logs] == [
        ("task_died", "odd", 1),
        ("task_died", "odd", 2),
    ]


async def test_a_task_that_lives_on_after_its_death_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "STEADY_SECONDS", 0.05)
    health, lives = Health(), 0

    async def work() -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            raise KeyError("odd")
        await asyncio.get_running_loop().create_future()

    async def well() -> bool:
        return health.parts.get(part("odd"), "") is None

    with capture_logs():
        async with Supervised(health, no_pauses) as beside:
            beside.keep("odd", work)
            await eventually(well, "the task is well")


async def test_the_pauses_of_a_task_that_dies_at_once_grow_and_begin_anew_after_a_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervised, "STEADY_SECONDS", 0.1)
    asked: list[int] = []
    lives = 0

    def counting() -> Iterator[float]:
        asked.append(0)
        while True:
            asked[-1] += 1
            yield 0.0

    async def work() -> None:
        nonlocal lives
        lives += 1
        if lives == 4:
            await asyncio.sleep(0.15)
        if lives == 6:
            await asyncio.get_running_loop().create_future()
        raise KeyError

    async def settled() -> bool:
        return lives == 6

    with capture_logs():
        async with Supervised(Health(), counting) as beside:
            beside.keep("odd", work)
            await eventually(settled, "it lives on")
    assert asked == [3, 2]


async def test_one_that_dies_leaves_the_others_alone() -> None:
    other, before = asyncio.Event(), died("odd")

    async def died_twice() -> bool:
        return died("odd") >= before + 2

    async def lives_on() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            other.set()

    with capture_logs():
        async with Supervised(Health(), no_pauses) as beside:
            beside.keep("other", lives_on)
            beside.keep("odd", an_error)
            await eventually(died_twice, "the odd one died twice")
            assert not other.is_set()
    assert other.is_set()  # and at the end all are gone


async def test_a_cancellation_that_a_client_swallows_ends_a_task_nevertheless() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return

    async def ended() -> None:
        async with Supervised(Health(), no_pauses) as beside:
            beside.keep("odd", work)
            await begun.wait()

    await asyncio.wait_for(ended(), 3)


async def test_whoever_does_not_end_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverstale.role.tasks.ASK_AGAIN_SECONDS", 0.02)
    asked = 0

    async def deaf() -> None:
        nonlocal asked
        while asked < 3:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                asked += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancelled(task), 5)
    assert asked == 3


async def test_a_failure_in_a_group_names_its_tasks() -> None:
    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            start(group, a_group(), "outer")

    with pytest.raises(ExceptionGroup) as raised:
        await both()
    assert failed_in(raised.value) == ["outer", "inner"]
    assert in_words(raised.value) == "KeyError: 'odd'"


def settings() -> Settings:
    return Settings(mongodb=MongoDB(uri=SecretStr("mongodb://127.0.0.1")))


async def fails_in_a_group(life: Life) -> None:
    async with asyncio.TaskGroup() as group:
        start(group, an_error(), "guard")


async def fails(life: Life) -> None:
    raise Outage("redis", "gone")


async def ends(life: Life) -> None:
    pass


async def needs_a_human(life: Life) -> None:
    async with asyncio.TaskGroup() as group:
        start(group, a_stop(), "guard")


async def is_asked_to_stop(life: Life) -> None:
    life.stop.set()


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (fails_in_a_group, 1, {"event": "failed", "tasks": ["guard"], "reason": "KeyError: 'odd'"}),
        (fails, 1, {"event": "failed", "tasks": [], "reason": "Outage: redis is unavailable: gone"}),
        (ends, 1, {"event": "failed", "tasks": [], "reason": "Ended: the consumer came to its end"}),
        (needs_a_human, 2, {"event": "stopped", "reason": "a human must act"}),
        (is_asked_to_stop, 0, {"event": "stopped", "reason": "asked"}),
    ],
)
def test_a_role_whose_story_ends_unasked_ends_the_process_and_says_why(
    monkeypatch: pytest.MonkeyPatch, body: service.Body, code: int, said: dict[str, Any]
) -> None:
    monkeypatch.setattr("neverstale.role.telemetry.configure_logging", lambda _: None)  # the tests' logs are not ours
    with capture_logs() as logs:
        assert run_role("consumer", settings(), body) == code
    assert said.items() <= logs[-1].items()


def test_a_role_whose_http_server_ends_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverstale.role.telemetry.configure_logging", lambda _: None)

    async def serve(self: object, sockets: object = None) -> None:
        pass

    async def body(life: Life) -> None:
        await life.stop.wait()

    monkeypatch.setattr("uvicorn.Server.serve", serve)
    with capture_logs() as logs:
        assert run_role("watcher", settings(), body) == 1
    assert logs[-1]["tasks"] == ["service-http"]
    assert logs[-1]["reason"] == "Ended: the HTTP server came to its end"


async def test_the_same_name_twice_is_a_mistake() -> None:
    async with Supervised(Health()) as beside:
        beside.keep("odd", asyncio.Event().wait)
        with pytest.raises(AssertionError, match="two tasks odd"):
            beside.keep("odd", an_end)


def test_an_end_is_an_error_of_its_own() -> None:
    assert in_words(Ended()) == "Ended"
