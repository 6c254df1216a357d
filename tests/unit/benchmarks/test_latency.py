"""The benchmark of latency: how notes of three processes become figures."""

import struct
from pathlib import Path

import pytest

from benchmarks.latency import entry, join
from benchmarks.latency_report import Measured, Rate, as_json, show

SEEN, TOLD, WRITTEN = struct.Struct("<dc16sH"), struct.Struct("<qd"), struct.Struct("<qdd")

IDLE = [500.0, 900.0]


def notes(folder: Path, seen: dict[int, list[float]], told: dict[int, float], written: list[int]) -> Rate:
    """Document n is sent at n and acknowledged at n + 0.5."""
    files = [folder / name for name in ("seen", "told", "written")]
    sights = [(at, entry(number)) for number, moments in seen.items() for at in moments]
    files[0].write_bytes(b"".join(SEEN.pack(at, b"?", b"", len(key)) + key for at, key in sights))
    files[1].write_bytes(b"".join(TOLD.pack(number, at) for number, at in told.items()))
    files[2].write_bytes(b"".join(WRITTEN.pack(number, number, number + 0.5) for number in written))
    seen_file, told_file, written_file = files
    rate = join(200, seen_file, told_file, written_file, 2)
    rate.bounds = [40.0, 60.0, 900.0]
    return rate


def test_times_count_from_the_acknowledgement_and_warming_up_does_not_count(tmp_path: Path) -> None:
    rate = notes(tmp_path, {1: [1.9], 2: [2.502, 9.0], 3: [3.501]}, {1: 1.5, 2: 2.4995, 3: 3.5}, [1, 2, 3])
    assert rate.corrected == pytest.approx([1.0, 2.0])
    assert rate.bare == pytest.approx([-0.5, 0.0])
    assert rate.beyond == pytest.approx([1.0, 2.5])
    assert rate.acknowledged == pytest.approx([500.0, 500.0])
    assert rate.missing == 0 and rate.good


def test_a_correction_that_was_not_seen_fails_the_run(tmp_path: Path) -> None:
    rate = notes(tmp_path, {2: [2.501]}, {2: 2.5, 3: 3.5}, [2, 3])
    assert rate.missing == 1 and not rate.good
    assert "not seen at 200 writes/s: 1 corrections" in show(Measured("Apache Kafka", [rate], IDLE))


def test_a_wide_bound_fails_the_run(tmp_path: Path) -> None:
    rate = notes(tmp_path, {2: [2.501]}, {2: 2.5}, [2])
    assert rate.good and Measured("Apache Kafka", [rate], IDLE).good
    assert not Measured("Apache Kafka", [rate], [500.0, 1200.0]).good
    rate.bounds = [40.0, 110.0, 120.0]
    assert not rate.good


def test_slow_corrections_fail_the_run(tmp_path: Path) -> None:
    rate = notes(tmp_path, {2: [2.6]}, {2: 2.5}, [2])
    assert not rate.good
    figures = as_json(Measured("Apache Kafka", [rate], IDLE))
    assert figures["rates"][0]["corrected_ms"]["p50"] == pytest.approx(100.0) and not figures["good"]
