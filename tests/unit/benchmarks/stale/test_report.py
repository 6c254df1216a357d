"""What was found, as a table and as a plot; what failed leaves the others their cells."""

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from benchmarks.stale.__main__ import BEGIN, PAGE, failures, with_figures
from benchmarks.stale.report import plot, table


def phase(**found: Any) -> dict[str, Any]:
    return {
        "reads": 1000,
        "stale": 0,
        "unsaid": 0,
        "behind": 0,
        "written": 90,
        "p50_ms": None,
        "p99_ms": None,
    } | found


OURS: Mapping[str, Any] = {
    "memory_mb": 250.4,
    "phases": {
        "load": phase(p50_ms=2.25, p99_ms=9.0),
        "killed: captures": phase(stale=40),
        "flushed": {"wrong": "TimeoutError: no <answer>"},
        "backlog": {"changes": 18_000, "per_second": 23_456.7, "cpu_us": 61.4},
    },
}
THEIRS: Mapping[str, Any] = {
    "memory_mb": 900.0,
    "wrong": "it was not done within 180 s",
    "phases": {"load": phase(stale=500, unsaid=500, behind=7), "backlog": {"wrong": "no"}},
}
CACHES: Mapping[str, Mapping[str, Any]] = {
    "neverstale": OURS,
    "cashews, TTL of 10 s": THEIRS,
    "never started": {"wrong": "no Java"},
}


def cells(row: str) -> list[str]:
    [line] = [line for line in table(CACHES).splitlines() if line.startswith(f"| {row}")]
    return [cell.strip() for cell in line.strip("| ").split("|")][1:]


def test_each_cache_has_a_column_with_what_it_found() -> None:
    assert cells("changes/s") == ["23,457", "failed", "-"]
    assert cells("CPU") == ["61", "failed", "-"]
    assert cells("resident") == ["250", "900", "-"]
    assert cells("write → corrected") == ["2.2 / 9.0", "up to 10 s", "-"]
    assert cells("under load") == ["0 of 1,000", "500 of 1,000, 7 of 90 stay", "-"]
    assert cells("who captures") == ["40 of 1,000", "-", "-"]
    assert cells("Redis is flushed") == ["failed", "-", "-"]
    assert cells("stale answers that did not say so") == ["0 of 40", "500 of 500", "-"]
    assert "cashews, TTL of 10 s: it was not done within 180 s" in table(CACHES)


def test_what_failed_is_known_to_have_failed() -> None:
    assert failures(OURS) == ["flushed"]
    assert failures(THEIRS) == ["backlog", "wrong"]
    assert failures({"phases": {"load": phase()}}) == []


def test_the_plot_is_a_picture_with_a_bar_for_each_part_of_each_cache() -> None:
    root = ElementTree.fromstring(plot(CACHES))
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert [float(bar.get("width", 0)) for bar in bars] == [1.0, 120.0, 9.6, 1.0]
    said = " ".join(root.itertext())
    assert "50.0%; 7 stay so" in said and "no <answer>" in said


def test_the_page_has_a_place_for_the_table() -> None:
    page = with_figures(PAGE.read_text(encoding="utf-8"), CACHES)
    assert page.count(BEGIN) == 1 and "| neverstale |" in page
    assert with_figures(page, CACHES) == page
