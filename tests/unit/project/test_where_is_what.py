"""docs/where-is-what.md answers twenty questions with files that are there."""

import re

import pytest

from tests.support.project import ROOT

ROWS = re.findall(
    r"^\| (\d+)\. (.+\?) \| `([a-z_/]+\.(?:py|lua))` \|$",
    (ROOT / "docs/where-is-what.md").read_text(encoding="utf-8"),
    re.M,
)


def test_there_are_twenty_questions_in_order_each_with_a_file_of_its_own() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 21))
    assert len({question for _, question, _ in ROWS}) == len({file for _, _, file in ROWS}) == 20


@pytest.mark.parametrize(("number", "question", "file"), ROWS)
def test_the_file_that_answers_a_question_exists(number: str, question: str, file: str) -> None:
    assert (ROOT / file).is_file(), question
