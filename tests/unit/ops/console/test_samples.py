"""What a process says at `/metrics`, as the console reads it."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from neverstale.ops.console.samples import NAMES, PATH, Samples, increase, most
from neverstale.role.telemetry import REGISTRY


def said(hits: float, bound: float = 0.5) -> Samples:
    registry = CollectorRegistry()
    reads = Counter("neverstale_reads", "text", ["resource", "how"], registry=registry)
    reads.labels('od"d\n', "hit").inc(hits)
    reads.labels("flights", "hit").inc(1)
    reads.labels("flights", "miss").inc(2)
    Gauge("neverstale_bound_seconds", "text", ["resource"], registry=registry).labels("flights").set(bound)
    return Samples.read(generate_latest(registry).decode() + "# nonsense\nneverstale_x NaNsense\n\n")


def test_samples_are_added_by_the_labels_that_are_wanted() -> None:
    samples = said(3)
    assert samples.total("neverstale_reads_total") == 6
    assert samples.total("neverstale_reads_total", how="hit") == 4
    assert samples.total("neverstale_reads_total", resource="flights", how="miss") == 2
    assert samples and not Samples({})


def test_a_process_that_began_again_counts_from_zero() -> None:
    assert increase(said(3), said(5), "neverstale_reads_total", how="hit") == 2
    assert increase(said(5), said(3), "neverstale_reads_total", how="hit") == 4
    assert increase(None, said(3), "neverstale_reads_total", how="hit") == 4


def test_a_bound_that_one_process_does_not_know_is_unknown() -> None:
    name = "neverstale_bound_seconds"
    assert most([said(1, 0.5), said(1, 2.5)], name) == 2.5
    unknown = most([said(1, 0.5), said(1, float("nan"))], name)
    assert unknown is not None and unknown != unknown
    assert most([], name) is None


def test_what_nobody_asks_for_cannot_be_looked_at() -> None:
    with pytest.raises(LookupError):
        said(1).total("neverstale_unknown")


def test_a_process_shows_what_it_is_asked_for() -> None:
    shown = REGISTRY.restricted_registry(NAMES)
    described = {metric.name for metric in shown.collect()}
    declared = {name for name in NAMES if name.startswith("neverstale_")}
    assert declared <= set(REGISTRY._names_to_collectors)
    assert described and "neverstale_bound_seconds" in PATH
