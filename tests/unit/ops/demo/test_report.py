"""What is said about a run: the table, the figures, and whether it was clean."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from neverstale.ops.demo.boards import Boards
from neverstale.ops.demo.chaos import Recovery
from neverstale.ops.demo.report import Counts, Run, TimesHeard, figures, quantile, show
from neverstale.ops.demo.sweep import Sweep
from neverstale.ops.truth.corrections import CorrectionTimes
from neverstale.ops.truth.oracle import Judgement, Read, Tally

COUNTS = Counts(requests=900, documents=1000, hits=950, local_hits=10, server_errors=0, shed=2, broken=0)


def verdict(**tallies: Tally) -> Judgement:
    return replace(Judgement(violated_bounds=Tally(0, 1000), foreign=Tally(0, 1000)), **tallies)  # type: ignore[arg-type]


def run(judged: Judgement | None = None, stale: int = 0, **others: object) -> Run:
    made = Run(
        stack={"kafka": "Apache Kafka"},
        seconds=10.0,
        changes=5000,
        weeks=0,
        failed_writes=0,
        counts=COUNTS,
        converged_seconds=0.1,
        verdict=judged or verdict(),
        heard=TimesHeard(),
        sweep=Sweep(Tally(stale, 7778, ["flight X"] if stale else []), 7000),
        boards=Boards(Tally(0, 311)),
        corrections=CorrectionTimes([0.003, 0.001, 0.002]),
        died=[],
        recoveries=None,
    )
    return replace(made, **others)  # type: ignore[arg-type]


def shown(made: Run) -> str:
    text = StringIO()
    show(made, Console(file=text, width=200))
    return text.getvalue()


def test_a_run_without_fault_is_clean() -> None:
    assert run().clean


@pytest.mark.parametrize(
    "made",
    [
        run(stale=1),
        run(boards=Boards(Tally(1, 311, ["count of X"]))),
        run(verdict(violated_bounds=Tally(1, 1000))),
        run(verdict(foreign=Tally(1, 1000))),
        run(verdict(unwritten=Tally(1, 1000))),
        run(died=["watcher-1 was ended by SIGSEGV"]),
        run(counts=replace(COUNTS, server_errors=1)),
        run(counts=replace(COUNTS, documents=0)),
    ],
)
def test_any_fault_makes_it_unclean(made: Run) -> None:
    assert not made.clean
    assert "Something is wrong" in shown(made)


def test_errors_are_excused_only_when_servers_are_killed_on_purpose() -> None:
    assert run(counts=replace(COUNTS, server_errors=1), recoveries=[Recovery("Redis", 1.5)]).clean


def test_the_table_shows_k_of_n() -> None:
    text = shown(run())
    assert "0 of 7,778" in text and "0 of 311" in text and "0 of 1,000" in text
    assert "95.0%" in text and "500 a second" in text
    assert "2.0 / 3.0 ms" in text


def test_what_is_wrong_is_told_by_example() -> None:
    assert "stale after convergence: flight X" in shown(run(stale=1))
    assert "wrong board: count of X" in shown(run(boards=Boards(Tally(1, 311, ["count of X"]))))


def test_the_figures_hold_every_count_for_programs() -> None:
    made = figures(run())
    assert made["ok"] and made["stale_after_convergence"] == {"k": 0, "n": 7778, "examples": [], "hits": 7000}
    assert made["write_to_corrected_seconds"] == {"p50": 0.002, "p99": 0.003, "max": 0.003, "n": 3, "unseen": 0}
    assert made["changes_per_second"] == 500.0 and made["hit_ratio"] == 0.95


def test_a_request_for_many_keys_counts_once_in_the_latencies() -> None:
    heard = TimesHeard()
    reads = [Read(key, key, 1, 1, 1.0, 1.5, 0.2, 0) for key in range(20)] + [Read(1, 1, 1, 1, 2.0, 2.1, 0.3, 0)]
    assert list(heard.each(reads)) == reads
    assert list(heard.latencies) == pytest.approx([0.5, 0.1]) and list(heard.bounds) == [0.2, 0.3]


def test_quantiles_are_values_that_occurred() -> None:
    values = list(range(1, 101))
    assert [quantile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([], 0.5) is None
