"""The report of a storm as one page of HTML that needs nothing else."""

import json
from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import log10

from tests.faults.chaos.story import Look, Report

WIDTH, HEIGHT, LOW, GAP, LANE, MARGIN = 1200, 160, 60, 28, 14, 250
TOP_OF_LANES = HEIGHT + 2 * (LOW + GAP) + 20
STEP_SECONDS = 5.0
LEAST, MOST = 0.01, 100.0
"""Seconds: the ends of the axis of bounds, which is logarithmic."""
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #d8dee4; --line: #0969da; --bad: #cf222e;
  --fault: #bf8700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --paper: #0d1117; --faint: #30363d; --line: #58a6ff;
  --bad: #ff7b72; --fault: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 1rem auto;
  max-width: 1240px; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid
  var(--faint); } td:first-child, th:first-child, td:nth-child(2) { text-align: left; }
.wide { overflow-x: auto; } svg { width: 100%; min-width: 900px; height: auto; } svg text { fill: var(--ink);
  font-size: 11px; } .axis { stroke: var(--faint); } .bound { fill: none; stroke: var(--line); stroke-width: 1.2; }
.fault { fill: var(--fault); opacity: .55; } .unknown { fill: var(--bad); opacity: .35; } .bad { color: var(--bad); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: color-mix(in srgb, var(--faint) 35%, transparent);
  padding: .6rem; }
"""


def page(report: Report) -> str:
    verdict = f'<b class="bad">{report.wrong} wrong</b>' if report.wrong else "<b>nothing wrong</b>"
    if not report.ended:
        verdict += ", so far: it has not come to its end"
    facts = [
        f"seed {report.seed}, {report.seconds / 60:.1f} minutes, {len(report.faults)} faults",
        f"{report.wrong_answers} wrong of {report.checked:,} answers: {report.nines} nines",
        f"{report.writes:,} writes, {report.sent_again:,} records sent again",
        *(f"{name} {version}" for name, version in report.versions.items()),
    ]
    return "\n".join(
        [
            '<!doctype html><html lang="en"><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width"><title>neverstale: a storm</title>',
            f"<style>{STYLE}</style><h1>A storm: {verdict}</h1><p>{escape(' · '.join(facts))}</p>",
            "<h2>What the auditor found</h2>",
            _nines(report),
            "<h2>What was compared at the end</h2>",
            _at_the_end(report),
            "<h2>Faults, and the bound that answers stated</h2>",
            _timeline(report),
            "<h2>Faults</h2>",
            _faults(report),
            "<h2>Wrong answers, with their evidence</h2>",
            *([f"<pre>{escape(json.dumps(one, indent=1))}</pre>" for one in report.evidence] or ["<p>None.</p>"]),
            "<h2>Faults that could not be made</h2>",
            f"<pre>{escape(chr(10).join(report.failed) or 'None.')}</pre>",
            "</html>",
        ]
    )


def _table(head: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'


def _nines(report: Report) -> str:
    windows = ("0.1", "1", "2", "10")
    head = ["resource", "kind", "checked", "wrong", "at most", "nines", "permanent"]
    head += [*(f"stale at {window} s" for window in windows), "worst age", "undecided", "unanswered"]
    return _table(
        head,
        (
            [
                *(name, kind, f"{one['checked']:,}", one["wrong"], f"{one['wrong_at_most']:.2g}", one["nines"]),
                one["permanent"],
                *(f"{one['stale'][window]['count']:,}" for window in windows),
                f"{one['worst_age_seconds']:g} s",
                *(f"{one['undecided']:,}", f"{one['unanswered']:,}"),
            ]
            for name, kinds in report.resources.items()
            for kind, one in kinds.items()
        ),
    )


def _at_the_end(report: Report) -> str:
    rows = ([name, f"{tally.wrong} of {tally.checked:,}"] for name, tally in report.at_the_end.items())
    return _table(["what", "wrong"], rows)


def _faults(report: Report) -> str:
    names: dict[str, list[float]] = {}
    for began, ended, name in report.faults:
        names.setdefault(name, []).append(_fresh_again(report.looks, began, ended))
    rows = (
        [name, len(some), f"{sorted(some)[len(some) // 2]:.1f} s", f"{max(some):.1f} s"]
        for name, some in sorted(names.items())
    )
    return _table(["fault", "times", "until the bound is 1 s again, median", "at most"], rows)


def _fresh_again(looks: Sequence[Look], began: float, ended: float) -> float:
    """Seconds from a fault's beginning until all stated at most a second again."""
    for look in looks:
        if look.at >= ended and look.bound is not None and look.bound <= 1:
            return look.at - began
    return (looks[-1].at if looks else ended) - began


def _timeline(report: Report) -> str:
    end = max(report.seconds, 1.0)
    lanes = {name: place for place, name in enumerate(sorted({name for _, _, name in report.faults}))}
    height = TOP_OF_LANES + 20 + LANE * len(lanes)

    def x(at: float) -> str:
        return f"{WIDTH * at / end:.1f}"

    svg = f'<svg viewBox="-{MARGIN} -12 {WIDTH + MARGIN + 10} {height}" role="img" aria-label="timeline">'
    parts = [f'<div class="wide">{svg}']
    for value in (0.01, 0.1, 1.0, 10.0, 100.0):
        parts += _mark(float(_y(value)), f"{value:g} s")
    parts += _bounds(report.looks, x)
    parts += _curve(report.looks, x, HEIGHT + GAP, "answers checked a second", _checked_a_second)
    parts += _curve(report.looks, x, HEIGHT + LOW + 2 * GAP, "records not applied yet", _lags)
    for name, place in lanes.items():
        y = TOP_OF_LANES + LANE * place
        parts.append(f'<text x="-8" y="{y + LANE - 5}" text-anchor="end">{escape(name)}</text>')
        for began, ended, this in report.faults:
            if this == name:
                width = max(1.5, WIDTH * (ended - began) / end)
                title = f"<title>{escape(name)}, {began:.1f} s, for {ended - began:.1f} s</title>"
                place_of = f'x="{x(began)}" y="{y}" width="{width:.1f}" height="{LANE - 3}"'
                parts.append(f'<rect class="fault" {place_of}>{title}</rect>')
    parts.append("</svg></div>")
    return "".join(parts)


def _mark(y: float, text: str) -> Iterator[str]:
    yield f'<line class="axis" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    yield f'<text x="-8" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'


def _curve(
    looks: Sequence[Look],
    x: Callable[[float], str],
    top: int,
    name: str,
    of: Callable[[Sequence[Look]], Iterator[tuple[float, float]]],
) -> Iterator[str]:
    """A linear one, from nothing to the most there was."""
    points = list(of(looks))
    most = max((value for _, value in points), default=0.0) or 1.0
    yield from _mark(top, f"{most:,.0f}")
    yield from _mark(top + LOW, "0")
    yield f'<text x="4" y="{top - 4}">{escape(name)}</text>'
    line = " ".join(f"{x(at)},{top + LOW * (1 - value / most):.1f}" for at, value in points)
    yield f'<polyline class="bound" points="{line}"/>'


def _checked_a_second(looks: Sequence[Look]) -> Iterator[tuple[float, float]]:
    """In steps of some seconds, or it would be nothing but steps."""
    before: Look | None = None
    for look in looks:
        if before is None:
            before = look
        elif look.at - before.at >= STEP_SECONDS:
            yield look.at, (look.checked - before.checked) / (look.at - before.at)
            before = look


def _lags(looks: Sequence[Look]) -> Iterator[tuple[float, float]]:
    return ((look.at, look.lag) for look in looks if look.lag is not None)


def _bounds(looks: Sequence[Look], x: Callable[[float], str]) -> Iterator[str]:
    line: list[str] = []
    for look in looks:
        if look.bound is None:
            if line:
                yield f'<polyline class="bound" points="{" ".join(line)}"/>'
            line = []
            yield f'<rect class="unknown" x="{x(look.at)}" y="0" width="1" height="{HEIGHT}"/>'
        else:
            line.append(f"{x(look.at)},{_y(look.bound)}")
    if line:
        yield f'<polyline class="bound" points="{" ".join(line)}"/>'


def _y(seconds: float) -> str:
    share = (log10(min(max(seconds, LEAST), MOST)) - log10(LEAST)) / (log10(MOST) - log10(LEAST))
    return f"{HEIGHT * (1 - share):.1f}"
