"""What was found about each cache: as a table of Markdown, and as a plot (SVG)."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from benchmarks.parts import WRONG
from benchmarks.stale.caches import TTL_SECONDS

Found = Mapping[str, Any]
"""Of one cache, see `benchmarks.stale.one`."""

PHASES: Final = {
    "load": "under load",
    "killed: captures": "who captures changes is killed",
    "killed: applies": "who applies them is killed",
    "killed: answers": "who answers is killed",
    "killed: writes": "a writer is killed before its deletions",
    "flushed": "Redis is flushed",
}
NOTHING: Final = "-"


def table(caches: Mapping[str, Found]) -> str:
    """A column for each cache. Answers that were stale, of all; and what stays."""
    rows = [
        ["", *caches],
        ["---"] * (len(caches) + 1),
        ["changes/s, of a backlog", *(_backlog(found, "per_second", "{:,.0f}") for found in caches.values())],
        ["CPU for each of them, µs", *(_backlog(found, "cpu_us", "{:,.0f}") for found in caches.values())],
        ["resident memory, MB", *(_memory(found) for found in caches.values())],
        ["write → corrected, p50 / p99 ms", *(_corrected(name, found) for name, found in caches.items())],
        *([title, *(_stale(found, phase) for found in caches.values())] for phase, title in PHASES.items()),
        ["stale answers that did not say so", *(_unsaid(found) for found in caches.values())],
    ]
    failures = [f"{name}: {found[WRONG]}" for name, found in caches.items() if WRONG in found]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *(f"\n{failure}" for failure in failures)])


def _phase(found: Found, name: str) -> Found | None:
    phase: Found | None = found.get("phases", {}).get(name)
    return phase


def _backlog(found: Found, figure: str, form: str) -> str:
    phase = _phase(found, "backlog")
    if phase is None:
        return NOTHING
    return "failed" if WRONG in phase else form.format(phase[figure])


def _memory(found: Found) -> str:
    return f"{found['memory_mb']:,.0f}" if "memory_mb" in found else NOTHING


def _corrected(name: str, found: Found) -> str:
    phase = _phase(found, "load")
    if phase is None or WRONG in phase:
        return NOTHING if phase is None else "failed"
    if phase["p50_ms"] is None:
        return f"up to {TTL_SECONDS} s" if "TTL" in name else NOTHING
    return f"{phase['p50_ms']:.1f} / {phase['p99_ms']:.1f}"


def _stale(found: Found, name: str) -> str:
    phase = _phase(found, name)
    if phase is None:
        return NOTHING
    if WRONG in phase:
        return "failed"
    stays = f", {phase['behind']} of {phase['written']:,} stay" if phase["behind"] else ""
    return f"{phase['stale']:,} of {phase['reads']:,}{stays}"


def _unsaid(found: Found) -> str:
    phases = [phase for phase in found.get("phases", {}).values() if "unsaid" in phase]
    stale = sum(phase["stale"] for phase in phases)
    return f"{sum(phase['unsaid'] for phase in phases):,} of {stale:,}" if phases else NOTHING


# --- the plot

ROW: Final = 20
LEFT: Final = 170
WIDTH: Final = 600
BAR: Final = 240
COLOURS: Final = ("#1a7f5a", "#c0392b", "#d68910", "#7d3c98", "#2471a3")
STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#333}.t{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}"
)


def plot(caches: Mapping[str, Found]) -> str:
    """The share of stale answers, a group of bars for each phase."""
    drawn: list[str] = []
    y = 44
    for phase, title in PHASES.items():
        held = [(name, _phase(found, phase)) for name, found in caches.items()]
        shown = [(name, one) for name, one in held if one is not None]
        if not shown:
            continue
        drawn.append(_text(8, y, title, "t"))
        for name, one in shown:
            y += ROW
            drawn += _bar(y, name, one, COLOURS[list(caches).index(name) % len(COLOURS)])
        y += ROW + 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img"'
    title = "Answers that show what was replaced more than a second before, of all"
    begin = f'{head} aria-label="{title}"><style>{STYLE}</style>{_text(8, 20, title, "t")}'
    return "\n".join([begin, *drawn, "</svg>\n"])


def _bar(y: int, name: str, phase: Found, colour: str) -> Sequence[str]:
    share = phase["stale"] / phase["reads"] if phase.get("reads") else 0.0
    said = phase.get(WRONG) or f"{share:.1%}" + (f"; {phase['behind']} stay so" if phase["behind"] else "")
    length = max(1.0, share * BAR)
    return (
        _text(LEFT - 8, y, name, anchor="end"),
        f'<rect x="{LEFT}" y="{y - 11}" width="{length:.1f}" height="14" rx="2" fill="{colour}"/>',
        _text(round(LEFT + length + 6), y, said),
    )


def _text(x: int, y: int, said: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{style}>{escape(said)}</text>'
