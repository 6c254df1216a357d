"""Figures beside what is wanted of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from neverstale.ops.terminal.output import console, table


@dataclass(frozen=True, slots=True)
class Line:
    figure: str
    here: str
    wanted: str
    good: bool


def at_least(figure: str, here: float, wanted: float, form: str = "{:,.0f}") -> Line:
    return Line(figure, form.format(here), "≥ " + form.format(wanted), here >= wanted)


def at_most(figure: str, here: float, wanted: float, form: str = "{:,.0f}") -> Line:
    return Line(figure, form.format(here), "≤ " + form.format(wanted), here <= wanted)


def show(lines: Iterable[Line]) -> None:
    shown = table("", "here", "wanted", "")
    for line in lines:
        shown.add_row(line.figure, line.here, line.wanted, "✓" if line.good else "✗")
    console().print(shown)
