"""`neverstale dlq`: what it hands on, how it ends, and which dead letters count as settled."""

from typing import Any

import pytest
from typer.testing import CliRunner, Result

from neverstale.ops import cli
from neverstale.ops.dead_letters import dead_letters as dlq
from neverstale.ops.dead_letters.dead_letters import Done
from neverstale.ops.dead_letters.settled import LetterPlace, Settled
from tests.unit.ops.test_cli import CATALOG

OLD, NEW = 1_000, 2_000


class Calls:
    """In the place of `neverstale.ops.dead_letters.dead_letters`: notes what it is asked for."""

    def __init__(self, done: Done) -> None:
        self.done = done
        self.asked: list[Any] = []

    async def replay(self, settings: Any, database: str, ids: Any) -> Done:
        self.asked.append((database, ids))
        return self.done

    async def shown(self, settings: Any, letter_id: int) -> None:
        self.asked.append(letter_id)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls = Calls(Done([3]))
    for name, fake in {"replay": calls.replay, "discard": calls.replay, "shown": calls.shown}.items():
        monkeypatch.setattr(dlq, name, fake)
    return calls


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["dlq", *arguments, "--catalog", CATALOG])


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_letters_are_named_or_all_are_meant(calls: Calls, command: str) -> None:
    assert call(command, "3", "7").exit_code == 0
    assert call(command, "--all").exit_code == 0
    assert [ids for _, ids in calls.asked] == [[3, 7], None]


@pytest.mark.parametrize("command", ["replay", "discard"])
@pytest.mark.parametrize("arguments", [(), ("3", "--all"), ("three",), ("-1",)])
def test_anything_else_is_wrong_use(calls: Calls, command: str, arguments: tuple[str, ...]) -> None:
    assert call(command, *arguments).exit_code == 2
    assert calls.asked == []


def test_a_letter_that_was_refused_is_a_problem_and_says_why(calls: Calls) -> None:
    calls.done = Done([3], {4: "only the beginning of its 300000 bytes was kept"})
    result = call("replay", "3", "4")
    assert result.exit_code == 1
    assert "replayed 1 dead letter\n" in result.output and "not 4: only the beginning" in result.output


def test_a_letter_that_is_not_there_is_a_problem(calls: Calls) -> None:
    result = call("show", "3")
    assert result.exit_code == 1
    assert "holds no dead letter 3" in result.output


def test_all_before_a_place_and_single_ones_are_settled() -> None:
    settled = Settled(LetterPlace(5, OLD), frozenset({LetterPlace(7, OLD)}))
    assert [LetterPlace(offset, OLD) in settled for offset in (4, 5, 6, 7, 8)] == [True, False, False, True, False]


def test_in_a_topic_that_was_made_again_the_same_offsets_are_other_letters() -> None:
    settled = Settled(LetterPlace(5, OLD), frozenset({LetterPlace(7, OLD)}))
    assert [LetterPlace(offset, NEW) in settled for offset in (4, 7)] == [False, False]
