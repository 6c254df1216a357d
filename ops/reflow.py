"""Markdown in lines of at most 100 characters. Tables, code and headings stay as they are."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

WIDTH: Final = 100
_WHOLE: Final = re.compile(r"`[^`\n]{1,60}`|!?\[[^\]]{1,60}\]\([^)]*\)")
"""Code and links stay in one line."""
_GLUE: Final = "\x00"
_LIKE_A_MARK: Final = re.compile(r" (?=(?:[-+*>#|]|\d+[.)])(?: |$))")
"""Before a word that would begin a list, a heading or a quotation if it began a line."""
_MARK: Final = re.compile(r"^(\s*)((?:[-*+]|\d+[.)])\s+|> ?)?")
"""How a paragraph, an item of a list or a quotation begins."""
_ITEM: Final = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s")
_FENCE: Final = re.compile(r"^\s*```")
_FIXED: Final = re.compile(r"^\s*(?:$|\||<!--|#)")
"""An empty line, a row of a table, a comment, a heading."""


def reflowed(document: str) -> str:
    """The document with each block wrapped again in which a line is too long; words and blocks stay."""
    return "\n".join(
        line
        for block, is_text in _blocks(document.split("\n"))
        for line in (_wrapped(block) if is_text and max(map(len, block)) > WIDTH else block)
    )


def _blocks(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """What is wrapped as a whole, and lines that are no text, each by itself."""
    block: list[str] = []
    in_code = False
    for line in lines:
        is_fence = _FENCE.match(line) is not None
        if in_code or is_fence or _FIXED.match(line):
            if block:
                yield block, True
            yield [line], False
            block = []
            in_code ^= is_fence
        elif block and (_ITEM.match(line) or line.startswith(">") != block[0].startswith(">")):
            yield block, True
            block = [line]
        else:
            block.append(line)
    if block:
        yield block, True


def _wrapped(block: list[str]) -> list[str]:
    beginning = _MARK.match(block[0])
    assert beginning is not None
    indent, mark = beginning[1], beginning[2] or ""
    is_quoted = mark.startswith(">")
    texts = [block[0][beginning.end() :], *(line.removeprefix(">") if is_quoted else line for line in block[1:])]
    text = _WHOLE.sub(lambda found: found[0].replace(" ", _GLUE), " ".join(map(str.strip, texts)))
    lines = textwrap.wrap(
        _LIKE_A_MARK.sub(_GLUE, text),
        WIDTH,
        initial_indent=indent + mark,
        subsequent_indent=indent + ("> " if is_quoted else " " * len(mark)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_GLUE, " ") for line in lines]
