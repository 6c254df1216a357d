"""Pages are wrapped without a word changed, and what is no text stays."""

import pytest

from neverstale.ops.reflow import WIDTH, reflowed

WORDS = "word " * 40


@pytest.mark.parametrize(
    "text",
    [
        "short\nlines stay\n",
        f"| a table | {WORDS} |\n",
        f"```\n{WORDS}\n```\n",
        f"# {WORDS}\n",
        f"<!-- {WORDS} -->\n",
        "https://example.org/" + "x" * 200 + "\n",
    ],
)
def test_what_is_short_or_no_text_stays(text: str) -> None:
    assert reflowed(text) == text


@pytest.mark.parametrize(
    ("text", "indent"),
    [(WORDS, ""), (f"* {WORDS}", "  "), (f"12. {WORDS}", "    "), (f"> {WORDS}", "> "), (f"  - {WORDS}", "    ")],
)
def test_blocks_are_wrapped_and_keep_their_indentation(text: str, indent: str) -> None:
    lines = reflowed(text).split("\n")
    assert len(lines) > 1
    assert max(map(len, lines)) <= WIDTH
    assert all(line.startswith(indent) for line in lines[1:])
    assert " ".join([lines[0], *(line.removeprefix(indent) for line in lines[1:])]).split() == text.split()


def test_code_and_links_are_not_broken() -> None:
    pieces = ["`neverstale run watcher`", "[a link of words](http.md#limits)"]
    text = " ".join(pieces * 20)
    lines = reflowed(text).split("\n")
    assert sum(line.count(piece) for line in lines for piece in pieces) == 40


def test_items_of_a_list_stay_apart() -> None:
    lines = reflowed(f"* {WORDS}\n* two\n1. three").split("\n")
    assert lines[-2:] == ["* two", "1. three"]


@pytest.mark.parametrize("mark", ["+", "-", "*", "#", ">", "|", "1.", "12)"])
def test_no_line_begins_a_list_or_a_heading_that_was_none(mark: str) -> None:
    lines = reflowed(f"word {mark} " * 60).split("\n")
    assert len(lines) > 1
    assert not any(line.startswith(f"{mark} ") for line in lines)
