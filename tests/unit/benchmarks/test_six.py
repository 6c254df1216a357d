"""README's six numbers, from what the benchmarks write."""

from typing import Any

import pytest

from benchmarks.six import NUMBERS, README, TIMES, numbers, with_numbers


def row(name: str, *per_second: float) -> dict[str, Any]:
    return {"row": {"name": name}, "loads": {str(at): {"per_second": each} for at, each in enumerate(per_second)}}


FOUND: dict[str, Any] = {
    "read": {
        "rows": [
            row("raw ASGI constant", 10, 10, 20),
            row("neverstale L1", 40, 30, 80),
            row("neverstale L2", 20, 24),
            row("FastAPI + redis.get", 1, 2, 2),
        ],
        "misses": {"ratio": 6.04},
        "stampede": {"mongodb_reads": 1.0},
    },
    "capture": {"ratio": 0.918},
    "latency": {"rates": [{"corrected_ms": {"p50": 5.3}, "peer_ms": {"p50": 4.4}}]},
}
ALL = [
    f"40 {TIMES} FastAPI with `redis.get`, 4.0 {TIMES} a constant answer of raw ASGI",
    f"16 {TIMES} FastAPI with `redis.get`",
    f"6.0 {TIMES} one find each",
    "1 read of MongoDB",
    "0.92 of only reading the stream",
    f"1.2 {TIMES} the least that could do the work, 5.3 ms",
]


def test_each_number_comes_from_its_benchmark() -> None:
    assert numbers(FOUND) == (dict(zip(NUMBERS, ALL, strict=True)), {})


def test_what_was_not_found_leaves_the_others() -> None:
    told, missing = numbers(FOUND | {"capture": {"wrong": "no broker"}})
    assert list(missing.values()) == ["no broker"]
    assert len(told) == len(NUMBERS) - 1


def test_readme_has_a_row_for_each_number_and_keeps_all_else() -> None:
    before = README.read_text(encoding="utf-8")
    told, _ = numbers(FOUND)
    after = with_numbers(before, told, "2027-01-02")
    changed = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(changed) <= len(NUMBERS) + 1
    assert "2027-01-02)" in after and all(number in after for number in ALL)
    assert len(after.splitlines()) == len(before.splitlines())


def test_a_number_without_a_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 rows"):
        with_numbers("no table", {"reads from Redis": "fast"}, "2027-01-02")
