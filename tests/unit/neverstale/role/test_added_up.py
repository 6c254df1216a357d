"""The metrics of several processes as one answer."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from neverstale.role import telemetry
from neverstale.role.added_up import ADDED, Families, lasting, text, together

NAN = float("nan")


def process(reads: float, bound: float, l1: float, seconds: float) -> Families:
    registry = CollectorRegistry()
    counter = Counter("neverstale_reads", 'a "text" # with\nlines', ["how"], registry=registry)
    counter.labels('h"i}t ').inc(reads)
    Gauge("neverstale_bound_seconds", "text", registry=registry).set(bound)
    Gauge("neverstale_l1_bytes", "text", registry=registry).set(l1)
    Histogram("neverstale_load_seconds", "text", buckets=(0.1, 1), registry=registry).observe(seconds)
    return list(registry.collect())


def values(families: Families) -> dict[str, float]:
    """As Prometheus itself would read them."""
    return {
        " ".join((sample.name, *sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(text(families).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_what_is_counted_is_added_and_of_what_is_bad_the_worst_counts() -> None:
    found = values(together([process(3, 0.2, 10, 0.05), process(4, 0.7, 20, 5)]))
    assert found['neverstale_reads_total h"i}t '] == 7
    assert (found["neverstale_bound_seconds"], found["neverstale_l1_bytes"]) == (0.7, 30)
    assert [found[f"neverstale_load_seconds_bucket {le}"] for le in ("0.1", "1.0", "+Inf")] == [1, 1, 2]
    assert found["neverstale_load_seconds_sum"] == 5.05


def test_what_one_process_does_not_know_nobody_knows() -> None:
    for bounds in ((0.2, NAN), (NAN, 0.2)):
        found = values(together([process(1, bound, 1, 1) for bound in bounds]))["neverstale_bound_seconds"]
        assert found != found


def test_of_a_process_that_has_ended_only_what_it_counted_stays() -> None:
    found = values(together([process(3, 0.2, 10, 0.05), lasting(process(4, 0.9, 20, 5))]))
    assert found['neverstale_reads_total h"i}t '] == 7
    assert (found["neverstale_bound_seconds"], found["neverstale_l1_bytes"]) == (0.2, 10)


def test_one_process_alone_is_what_it_says() -> None:
    said = list(telemetry.REGISTRY.collect())

    class Registry(Collector):
        def collect(self) -> Iterable[Metric]:
            return said

    assert text(together([said])) == generate_latest(Registry())


def test_every_amount_is_a_metric() -> None:
    known = {metric.name for metric in telemetry.REGISTRY.collect()}
    assert known >= ADDED
