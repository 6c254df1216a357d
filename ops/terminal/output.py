"""How commands answer: a table for people, JSON for programs."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PIPED_WIDTH = 240
"""Wide enough that a row stays on one line for `grep` and `awk`."""


def console() -> Console:
    """Standard output, as wide as the terminal; a pipe gets unwrapped rows."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def table(*columns: str, title: str | None = None) -> Table:
    """An open table whose cells fold instead of being cut."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold", header_style="bold")
    return made


def plain(text: str) -> str:
    """A text as it is, for a table or a line: nothing in it is markup, and nothing in it moves the cursor. Names of
    fields, collections and hosts are other people's."""
    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text))


def print_json(answer: Any) -> None:
    print(json.dumps(answer, indent=2, ensure_ascii=False))
