"""What a run of the demo has shown: figures for programs, a table for people."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, isnan
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from neverstale.ops.demo.boards import Boards
from neverstale.ops.demo.chaos import Recovery
from neverstale.ops.demo.sweep import Sweep
from neverstale.ops.truth.corrections import CorrectionTimes
from neverstale.ops.truth.oracle import Judgement, Read, Tally


def quantile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile of ascending values; `None` without any."""
    return values[max(0, ceil(share * len(values)) - 1)] if len(values) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the readers have counted. Names as in `neverstale.ops.demo.gauges`."""

    requests: int
    documents: int
    hits: int
    local_hits: int
    """Of the hits, those from the memory of the service itself."""
    server_errors: int
    """Answers with 5xx other than 503."""
    shed: int
    """Answers with 503."""
    broken: int
    """Connections that broke, and answers that did not come."""


@dataclass
class TimesHeard:
    """What the reads themselves tell, gathered while the oracle goes through them."""

    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds of every request that was answered."""
    bounds: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds, of every answer that stated a bound."""

    def each(self, reads: Iterable[Read]) -> Iterator[Read]:
        last_start: dict[int, float] = {}
        for read in reads:
            if last_start.get(read.reader) != read.start:  # one request may have asked for many keys
                last_start[read.reader] = read.start
                self.latencies.append(read.end - read.start)
                if not isnan(read.bound):
                    self.bounds.append(read.bound)
            yield read


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that was found out."""

    stack: dict[str, str]
    """What the servers were."""
    seconds: float
    """That writers and readers ran together."""
    changes: int
    weeks: int
    failed_writes: int
    counts: Counts
    converged_seconds: float
    verdict: Judgement
    heard: TimesHeard
    sweep: Sweep
    boards: Boards
    corrections: CorrectionTimes
    died: list[str]
    """What ended without being asked to."""
    recoveries: Sequence[Recovery] | None
    """Not `None`: servers were killed on purpose; answers with 5xx are counted, and held against nobody."""

    @property
    def clean(self) -> bool:
        """Nothing stale, no word broken, nothing foreign; and something was read at all."""
        errors = self.counts.server_errors if self.recoveries is None else 0
        wrong = self.sweep.stale.wrong or self.boards.wrong.wrong or errors or self.died
        return self.verdict.clean and not wrong and self.counts.documents > 0

    @property
    def hit_ratio(self) -> float:
        return self.counts.hits / self.counts.documents if self.counts.documents else 0.0


def figures(run: Run) -> dict[str, Any]:
    """For `--json`: plain numbers, seconds and counts."""
    verdict = run.verdict
    return {
        "ok": run.clean,
        "stack": run.stack,
        "seconds": round(run.seconds, 3),
        "changes_per_second": round(run.changes / run.seconds, 1),
        "reads_per_second": round(run.counts.documents / run.seconds, 1),
        "requests_per_second": round(run.counts.requests / run.seconds, 1),
        "changes": run.changes,
        "reads": run.counts.documents,
        "requests": run.counts.requests,
        "weeks_replayed": run.weeks,
        "hit_ratio": round(run.hit_ratio, 4),
        "local_hits": run.counts.local_hits,
        "read_seconds": _quantiles(run.heard.latencies),
        "write_to_corrected_seconds": _quantiles(run.corrections.seconds) | {"unseen": run.corrections.unseen},
        "stated_bound_seconds": _quantiles(run.heard.bounds),
        "staleness_seconds": _quantiles(list(verdict.staleness.values())),
        "converged_seconds": round(run.converged_seconds, 3),
        "stale_after_convergence": _tally(run.sweep.stale) | {"hits": run.sweep.hits},
        "wrong_boards": _tally(run.boards.wrong) | {"answers": run.boards.answers, "hits": run.boards.hits},
        "violated_bounds": _tally(verdict.violated_bounds),
        "foreign_answers": _tally(verdict.foreign),
        "unwritten_answers": _tally(verdict.unwritten),
        "unknown_bounds": verdict.unknown_bounds,
        "undecided_bounds": verdict.undecided_bounds,
        "behind_answers": _tally(verdict.behind),
        "backwards_answers": _tally(verdict.backwards),
        "server_errors": run.counts.server_errors,
        "shed": run.counts.shed,
        "broken_connections": run.counts.broken,
        "failed_writes": run.failed_writes,
        "died": run.died,
        "recovery_seconds": {each.victim: round(each.seconds, 3) for each in run.recoveries or ()},
    }


def show(run: Run, console: Console) -> None:
    """Print the table, and what went wrong in sentences."""
    verdict, counts = run.verdict, run.counts
    console.print(_board(run.boards), "")
    speed = _table("What it did")
    speed.add_row("changes written", f"{run.changes:,}", f"{run.changes / run.seconds:,.0f} a second")
    speed.add_row("documents read", f"{counts.documents:,}", f"{counts.documents / run.seconds:,.0f} a second")
    speed.add_row(
        "hit ratio",
        f"{run.hit_ratio:.1%}",
        f"from the cache, {counts.local_hits:,} of them from the service's memory",
    )
    speed.add_row("read", _times(run.heard.latencies), "p50 / p99 of a request")
    speed.add_row("write → corrected", _times(run.corrections.seconds), _corrected(run.corrections))
    speed.add_row("stated bound", _times(run.heard.bounds), "p50 / p99: “at most so old”")
    speed.add_row("answers behind", f"{verdict.behind.wrong:,}", _behind(verdict))
    truth = _table("What the oracle found")
    truth.add_row("stale after convergence", *_count(run.sweep.stale), f"{run.sweep.hits:,} of them from the cache")
    from_cache = f"pages, counts and rankings; {run.boards.hits:,} of {run.boards.answers:,} answers from the cache"
    truth.add_row("wrong boards", *_count(run.boards.wrong), from_cache)
    truth.add_row("violated bounds", *_count(verdict.violated_bounds), f"{verdict.unknown_bounds:,} stated none")
    truth.add_row("foreign answers", *_count(verdict.foreign), "")
    truth.add_row("never written", *_count(verdict.unwritten), "")
    truth.add_row(
        "errors (5xx)", _number(counts.server_errors, run.recoveries is not None), f"and {counts.shed:,} times 503"
    )
    console.print(Group(speed, "", truth, ""))
    for sentence in _complaints(run):
        console.print(Text(sentence, style="red"))
    console.print(_conclusion(run))


SHOWN = 8
"""Rows of each part of the board."""


def _board(boards: Boards) -> Columns:
    """The board as the API tells it."""
    departures = _part("Departures", "time (UTC)", "flight", "to", "gate", "status")
    for flight in boards.departures[:SHOWN]:
        flown = f"{flight['carrier']}{flight['flight']}"
        time, gate = flight["sched_dep"][5:16].replace("T", " "), flight.get("gate", "")
        departures.add_row(time, flown, flight["dest"], gate, flight["status"])
    statuses = _part("Flights by status", "status", "flights")
    for status, count in boards.statuses.most_common(SHOWN):
        statuses.add_row(status, f"{count:,}")
    carriers = _part("Delays by carrier", "carrier", "flights", "minutes")
    for carrier, (count, minutes) in sorted(boards.carriers.items(), key=lambda one: -one[1][1])[:SHOWN]:
        carriers.add_row(carrier, f"{count:,}", f"{minutes:,}")
    delayed = _part("Most delayed", "flight", "minutes")
    for key, minutes in boards.delayed[:SHOWN]:
        delayed.add_row(key, f"{minutes:,}")
    return Columns([departures, statuses, carriers, delayed], padding=(0, 3))


def _part(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1, 0, 0)
    )
    for column in columns:
        table.add_column(column, justify="right" if column in ("flights", "minutes") else "left")
    return table


def _conclusion(run: Run) -> Text:
    if not run.clean:
        return Text("✗ Something is wrong; see above.", style="bold red")
    at_most = run.verdict.violated_bounds.at_most
    return Text(
        f"✓ Every answer kept its word (so at most {at_most:.1g} of all answers do not, at 95 %), and "
        f"{run.converged_seconds:.1f} s after the last write the cache was equal to MongoDB.",
        style="bold green",
    )


def _complaints(run: Run) -> list[str]:
    kinds = (
        ("stale after convergence", run.sweep.stale),
        ("wrong board", run.boards.wrong),
        ("violated bound", run.verdict.violated_bounds),
        ("foreign answer", run.verdict.foreign),
        ("never written", run.verdict.unwritten),
    )
    return [f"{name}: {example}" for name, tally in kinds for example in tally.examples] + run.died


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2, 0, 0)
    )
    table.add_column(min_width=24)
    table.add_column(justify="right", min_width=16)
    table.add_column(style="dim")
    return table


def _count(tally: Tally) -> tuple[Text]:
    style = "bold red" if tally.wrong else "green"
    return (Text(f"{tally.wrong:,} of {tally.checked:,}", style=style),)


def _number(number: int, allowed: bool) -> Text:
    return Text(f"{number:,}", style="green" if not number else "yellow" if allowed else "bold red")


def _corrected(corrections: CorrectionTimes) -> str:
    unseen = f", {corrections.unseen:,} not seen" if corrections.unseen else ""
    return f"p50 / p99 of {len(corrections.seconds):,} writes to cached flights{unseen}"


def _behind(verdict: Judgement) -> str:
    times = sorted(verdict.staleness.values())
    longest = f"{times[-1] * 1000:,.0f} ms at most" if times else "none"
    return f"missed a write acknowledged before, as their bounds allow; {longest}"


def _times(values: Sequence[float]) -> str:
    ascending = sorted(values)
    p50, p99 = quantile(ascending, 0.5), quantile(ascending, 0.99)
    return "none" if p50 is None or p99 is None else f"{p50 * 1000:,.1f} / {p99 * 1000:,.1f} ms"


def _quantiles(values: Sequence[float]) -> dict[str, float | int | None]:
    ascending = sorted(values)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    found = {name: quantile(ascending, share) for name, share in shares.items()}
    return {name: None if value is None else round(value, 6) for name, value in found.items()} | {"n": len(ascending)}


def _tally(tally: Tally) -> dict[str, Any]:
    return {"k": tally.wrong, "n": tally.checked, "examples": tally.examples}
