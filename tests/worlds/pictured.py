"""Scenes for the console: what it sees in each, so that its page can be looked at without any server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from neverstale.catalog import Catalog
from neverstale.ops.auditor.counts import About, AuditCounts
from neverstale.ops.auditor.record import record_of
from neverstale.ops.console.carried import carried
from neverstale.ops.console.looks import GroupLook, LongLook, Presence, ProcessLook, QuickLook
from neverstale.ops.console.samples import Labels, Samples
from neverstale.ops.doctor.group import GroupFacts, GroupMember, GroupProgress
from neverstale.ops.doctor.oplog import OplogFacts
from neverstale.ops.redis.held import Register
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.servers import PartitionOffsets
from neverstale.ops.status import PartitionStatus, ServerStatus, Status, problems, wrong_answers
from neverstale.settings import Settings
from neverstale.versions import to_hex

NOW_MS: Final = 1_764_500_000_000
NOW: Final = NOW_MS // 1000
LONG: Final = "flights-of-the-whole-week-" * 8 + "ключ/ü:" + "x" * 90
FACTS: Final[dict[str, dict[str, Any]]] = {
    "mongodb": {"version": "8.0.23", "primary": "db-1.internal:27017"},
    "kafka": {"brokers": 3, "topic": "neverstale.changes"},
    "redis": {"version": "8.2.9", "memory": "412.5 MiB", "identity": "f" * 40},
}


def catalog(name: str = "flights") -> Catalog:
    declared = {
        "key_type": "string",
        "lists": {"departures": {"by": ["origin", "day"], "sort": ["sched_dep", "_id"]}},
        "counters": {"by_status": {"by": ["origin", "status"]}},
        "rankings": {"most_delayed": {"by": ["day"], "score": "dep_delay"}},
    }
    return Catalog.model_validate(
        {"database": "nyc", "resources": {name: declared, "airlines": {"key_type": "string"}}}
    )


@dataclass(frozen=True)
class Scene:
    """What is shown, the first look some seconds before the last, and words that the page must say, or must not."""

    looks: Sequence[QuickLook]
    long_looks: Sequence[LongLook]
    words: tuple[str, ...]
    silent_seconds: float = 0.0
    never: tuple[str, ...] = ()


def process(role: str, host: str = "box", presence: Presence = "answers", **metrics: Any) -> ProcessLook:
    """`reads={"how=hit": 3}` is `neverstale_reads_total{how="hit"} 3`, and `bound_seconds=3` has no label."""
    held: dict[str, list[tuple[Labels, float]]] = {"process_resident_memory_bytes": [({}, 96 * 2.0**20)]}
    for name, value in metrics.items():
        labelled = value if isinstance(value, dict) else {"": value}
        held[f"neverstale_{name}"] = [
            (dict([label.split("=")] if label else []), float(one)) for label, one in labelled.items()
        ]
    card = RoleStatus(role, f"{host}-{role}-1", 4711, host, "http://h:1", NOW_MS - 7_500_000, "0.1.0")
    return ProcessLook(card, presence, Samples(held))


def roles(seconds: float, rate: int = 800, **changed: ProcessLook) -> list[ProcessLook]:
    """All that is needed, after so many seconds of reads and changes."""
    count = int(seconds * rate)
    each = {
        "watcher": process(
            "watcher",
            watcher_leads=1,
            watcher_term=3,
            changes_read_total=count // 8,
            records_published_total=count // 8,
            capture_lag_seconds_count=count // 8,
            capture_lag_seconds_sum=count // 8 * 0.0021,
        ),
        "consumer": process(
            "consumer",
            records_applied_total=count // 8,
            invalidations_total=count // 9,
            applied_lag_seconds_count=count // 8,
            applied_lag_seconds_sum=count // 8 * 0.0043,
            apply_seconds_count=count // 40,
            apply_seconds_sum=count // 40 * 0.0009,
        ),
        "api": process(
            "api",
            bound_seconds={"resource=flights": 0.41, "resource=airlines": 0.41},
            reads_total={
                "how=hit": count * 0.9,
                "how=miss": count * 0.06,
                "how=stale": count * 0.03,
                "how=bypass": 0.0,
                "how=request": count * 0.01,
            },
            l1_hits_total=count * 0.6,
            loads_total=count // 20,
            load_seconds_count=count // 20,
            load_seconds_sum=count // 20 * 0.0032,
            l1_bytes=48 * 2**20,
        ),
        "standby": process("watcher", "other", watcher_leads=0, watcher_term=2),
    }
    return [changed.get(name, one) for name, one in each.items()]


def look(
    at: float,
    processes: Sequence[ProcessLook],
    ages_ms: Sequence[int | None] = (380, 120, 90, 60),
    away: Sequence[str] = (),
    audit: dict[str, Any] | None = None,
) -> QuickLook:
    servers = [
        ServerStatus(name, "no answer in time" if name in away else None, {} if name in away else facts)
        for name, facts in FACTS.items()
    ]
    partitions = [
        PartitionStatus(
            number,
            None if age is None else to_hex((NOW << 32) + number),
            age,
            None if "kafka" in away else 3 * number,
        )
        for number, age in enumerate(ages_ms)
    ]
    hidden = "redis" in away
    known = [] if hidden else [one.role for one in processes]
    status = Status(servers, known, [] if hidden else partitions, [Register("floor flights", to_hex(5))], [], audit)
    status = replace(status, problems=[*problems(status, Settings()), *wrong_answers(audit)])
    return QuickLook(at, NOW_MS + int(at * 1000), status, processes, dict.fromkeys(FACTS, at))


def long_look(at: float, partitions: int = 4, owner: str = "box-consumer-1", moved: int = 5) -> LongLook:
    offsets = {number: PartitionOffsets(900 + moved, 912 + 3 * number, owner) for number in range(partitions)}
    progress = GroupProgress(offsets, dict.fromkeys(range(partitions), f"{moved:016x}"))
    member = GroupMember(f"{owner}-12345678-1234-5678-1234-567812345678", "/10.0.0.7", tuple(range(partitions)))
    oplog = OplogFacts((NOW - 147_600) << 32, NOW << 32, 900 << 20, 990 << 20)
    group = GroupLook(GroupFacts("Stable", (member,)), progress, (NOW - 3) << 32, 0)
    return LongLook(at, {"default": group}, oplog, {"flights": ()})


def _pair(make: Callable[[float], QuickLook]) -> list[QuickLook]:
    first = make(0.0)
    return [first, carried(first, make(5.0))]


def _longs(**changes: Any) -> list[LongLook]:
    return [long_look(0.0, moved=4, **changes), long_look(4.0, **changes)]


def reads_flow() -> Scene:
    looks = _pair(lambda at: look(at, roles(at, 80_000)))
    words = ("Every answer is at most 0.41 s old", "Nothing is wrong", "Nothing worth a line")
    return Scene(looks, _longs(), words)


def without_data() -> Scene:
    words = ("Nobody is served", "no watcher runs", "neverstale run watcher", "none known")
    nobody = GroupLook(GroupFacts("Dead", ()), GroupProgress({}, {}), None, 0)
    nothing = replace(_longs()[0], groups={"default": nobody})
    return Scene(_pair(lambda at: look(at, [], ())), [nothing, replace(nothing, at=4.0)], words)


def server_away(name: str, *words: str) -> Scene:
    def make(at: float) -> QuickLook:
        gone = at > 0
        ages = (61_000, 60_800, 60_700, 60_600) if gone and name != "redis" else (380, 120, 90, 60)
        api = process("api", bound_seconds=61.0 if gone else 0.4, reads_total={"how=hit": at * 100})
        return look(at, roles(at, api=api), ages, (name,) if gone else ())

    return Scene(_pair(make), _longs(), words, never=("run watcher", "run consumer"))


def frozen_consumer() -> Scene:
    def make(at: float) -> QuickLook:
        frozen = process("consumer", presence="silent" if at else "answers")
        api = process(
            "api", bound_seconds={"resource=flights": 14.2 if at else 0.4}, reads_total={"how=hit": at * 400}
        )
        return look(
            at, roles(at, api=api, consumer=frozen), (14_200, 14_100, 14_000, 13_900) if at else (380, 120, 90, 60)
        )

    words = ("Answers may be 14 s old", "it is frozen", "kill -9 4711", "neverstale run consumer", "1 silent")
    return Scene(_pair(make), [long_look(0.0), long_look(4.0)], words, 14.0, ("run watcher", "do not move"))


def frozen_watcher() -> Scene:
    def make(at: float) -> QuickLook:
        frozen = process("watcher", presence="silent" if at else "answers", watcher_leads=1, watcher_term=3)
        api = process("api", bound_seconds=14.2 if at else 0.4, reads_total={"how=hit": at * 400})
        ages = (14_200, 14_100, 14_000, 13_900) if at else (380, 120, 90, 60)
        return look(at, roles(at, api=api, watcher=frozen), ages)

    words = (
        "the watcher box-watcher-1",
        "changes are not told",
        "kill -9 4711",
        "neverstale run watcher",
        "1 silent",
    )
    return Scene(_pair(make), _longs(), words, 14.0, ("run consumer", "no marks come"))


def long_names() -> Scene:
    api = process("api", LONG, bound_seconds={f"resource={LONG.replace('=', '')}": 0.3})
    wrong = replace(api, wrong={"warm": f"{LONG}: not found", "sources": LONG.replace("-", "_")})
    return Scene(_pair(lambda at: look(at, [*roles(at), wrong])), _longs(owner=LONG), (LONG[:40], "Warning"))


def many_partitions() -> Scene:
    ages = [*(120 + 10 * number for number in range(63)), 91_000]
    words = ("64 partitions", "partition 63", "weakest", "others move", "neverstale run consumer")
    longs = _longs(partitions=64)
    return Scene(_pair(lambda at: look(at, roles(at), ages)), longs, words, never=("run watcher",))


def wrong_answers_found() -> Scene:
    counts: dict[About, AuditCounts] = {("flights", "pages"): AuditCounts(checked=900, untrue=2, permanent=1)}
    audit = record_of(counts, float(NOW - 3600), float(NOW), [])
    auditor = process("auditor", audit_nines=1.2, audit_wrong_total=2)
    words = ("2 answers about pages of flights were wrong", "neverstale invalidate --all", "Answers were wrong")
    looks = _pair(lambda at: look(at, [*roles(at), auditor], audit=audit))
    return Scene(looks, _longs(), words, never=("Every answer is at most",))


SCENES: Final[dict[str, Callable[[], Scene]]] = {
    "without-data": without_data,
    "mongodb-away": lambda: server_away(
        "mongodb", "MongoDB cannot be used", "MongoDB does not answer", "grows older"
    ),
    "kafka-away": lambda: server_away("kafka", "Kafka cannot be used", "Kafka does not answer", "kafka-topics"),
    "redis-away": lambda: server_away("redis", "Redis does not answer", "last known; away: Redis", "redis-cli"),
    "frozen-consumer": frozen_consumer,
    "frozen-watcher": frozen_watcher,
    "long-names": long_names,
    "many-partitions": many_partitions,
    "answers-were-wrong": wrong_answers_found,
    "reads-flow": reads_flow,  # the last, so that nothing of the others is left
}
