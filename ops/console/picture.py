"""What the page is given: the looks of the last seconds as figures and sentences, ready to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from neverstale import __version__
from neverstale.catalog import Catalog
from neverstale.ops.check.findings import Finding
from neverstale.ops.console.happenings import PastEvent
from neverstale.ops.console.looks import LongLook, ProcessLook, QuickLook
from neverstale.ops.console.samples import increase
from neverstale.ops.console.sentence import WIDE_SECONDS, seconds, sentence
from neverstale.ops.console.wrong import ALWAYS, bound_of
from neverstale.ops.status import PartitionStatus, standing
from neverstale.settings import Settings
from neverstale.versions import Version

HOWS: Final = ("miss", "stale", "bypass", "request")


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a picture is made of."""

    looks: Sequence[QuickLook]
    """The oldest first, some seconds of them; at least one."""
    long_looks: Sequence[LongLook]
    happenings: Sequence[PastEvent]
    """The newest first."""
    findings: Sequence[Finding]
    silent: Mapping[str, float]

    @property
    def last(self) -> QuickLook:
        return self.looks[-1]

    @property
    def long(self) -> LongLook | None:
        return self.long_looks[-1] if self.long_looks else None

    def rate(self, name: str, **labels: str) -> float:
        """A second, by all processes together."""
        first, last = self.looks[0], self.looks[-1]
        if last.at <= first.at:
            return 0.0
        before = {one.role.instance: one.samples for one in first.processes if one.samples}
        grown = sum(
            increase(before[one.role.instance], one.samples, name, **labels)
            for one in last.processes
            if one.role.instance in before
        )
        return grown / (last.at - first.at)

    def mean(self, histogram: str) -> float | None:
        """Of what was observed in these seconds; `None`: nothing."""
        count = self.rate(f"{histogram}_count")
        return self.rate(f"{histogram}_sum") / count if count else None


def picture(seen: Seen, settings: Settings, catalog: Catalog, period_seconds: float) -> dict[str, Any]:
    look = seen.last
    problems = sum(one.level == "problem" for one in seen.findings)
    return {
        "at_ms": look.wall_ms,
        "period_seconds": period_seconds,
        "version": __version__,
        "database": catalog.database,
        "resources": {one.name: list(one.derived.digests()) for one in catalog.resources.values()},
        "sentence": asdict(sentence(look, problems)),
        "findings": [{"level": one.level, "message": one.message, "remedy": one.remedy} for one in seen.findings],
        "heard": {server: round(look.at - at, 1) for server, at in look.heard.items()},
        "away": dict(look.away),
        "stages": _stages(seen),
        "flows": _flows(seen),
        "partitions": _partitions(seen, settings),
        "reads": _reads(seen),
        "figures": _figures(seen),
        "processes": [_process(one, seen, look.wall_ms) for one in look.processes],
        "happenings": [asdict(one) for one in seen.happenings],
    }


def _stages(seen: Seen) -> dict[str, dict[str, str]]:
    """Name -> its state and two lines."""
    look = seen.last
    facts = {one.name: one.facts for one in look.status.servers}
    lags = [one.lag for one in look.status.partitions]
    ages = [one.age_ms for one in look.status.partitions if one.age_ms is not None]
    bound = bound_of(look)
    return {
        "mongodb": _server(
            look,
            "mongodb",
            f"{facts['mongodb'].get('version', '')}",
            f"{_number(seen.rate('neverstale_loads_total'))} loads/s",
        ),
        "watcher": _role(seen, "watcher", _leaders(look)),
        "kafka": _server(
            look,
            "kafka",
            f"{len(lags)} partitions",
            "lag unknown" if not lags or None in lags else f"{sum(lag or 0 for lag in lags):,} records wait",
        ),
        "consumer": _role(seen, "consumer", f"oldest {seconds(max(ages) / 1000)}" if ages else "nothing applied"),
        "redis": _server(
            look, "redis", str(facts["redis"].get("memory", "")), f"version {facts['redis'].get('version', '?')}"
        ),
        "api": _role(seen, "api", "bound unknown" if bound is None or bound != bound else f"bound {seconds(bound)}"),
    }


def _server(look: QuickLook, name: str, *lines: str) -> dict[str, str]:
    away = look.away.get(name)
    return {
        "state": "ok" if away is None else "away",
        "first": lines[0],
        "second": lines[1] if away is None else "does not answer",
    }


def _role(seen: Seen, role: str, line: str) -> dict[str, str]:
    processes = [one for one in seen.last.processes if one.role.role == role]
    answering = [one for one in processes if one.presence == "answers"]
    silent = [one for one in processes if one.presence == "silent"]
    state = "silent" if silent else "ok" if answering else "away"
    counted = f"{len(answering)} run{'s' * (len(answering) == 1)}" + (f", {len(silent)} silent" if silent else "")
    return {"state": state, "first": counted if processes else "none runs", "second": line if answering else ""}


def _leaders(look: QuickLook) -> str:
    leading = sum(one.samples.total("neverstale_watcher_leads") > 0 for one in look.answering("watcher"))
    standby = len(look.answering("watcher")) - leading
    leads = {0: "nobody leads", 1: "one leads"}.get(leading, f"{leading} lead")
    return f"{leads}, {standby} on standby" if standby else leads


def _each_is_watched(look: QuickLook, long: LongLook | None) -> bool:
    """Whether somebody leads, and of each watcher group that is known."""
    led = {name for name, (value, _) in look.of_watchers("neverstale_watcher_leads").items() if value > 0}
    return bool(led) and (long is None or long.groups.keys() <= led)


def _flows(seen: Seen) -> dict[str, dict[str, str]]:
    """Arrow -> what passes it each second, and how long that takes."""
    arrows = {
        "watch": ("changes_read_total", "changes", ""),
        "publish": ("records_published_total", "records", "capture_lag_seconds"),
        "apply": ("records_applied_total", "records", "applied_lag_seconds"),
        "correct": ("invalidations_total", "keys", "apply_seconds"),
        "read": ("reads_total", "reads", ""),
        "load": ("loads_total", "loads", "load_seconds"),
    }
    return {
        arrow: {
            "rate": _number(seen.rate(f"neverstale_{counter}")),
            "unit": unit,
            "lag": _milliseconds(seen.mean(f"neverstale_{histogram}") if histogram else None),
        }
        for arrow, (counter, unit, histogram) in arrows.items()
    }


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def _milliseconds(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number * 1000:.1f} ms" if number < 1 else seconds(number)


def _partitions(seen: Seen, settings: Settings) -> list[dict[str, Any]]:
    """The slowest first."""
    long, status = seen.long, seen.last.status
    old = standing(status.partitions, settings)
    several = len({one.group for one in status.partitions}) > 1

    def row(one: PartitionStatus) -> dict[str, Any]:
        known = long.groups.get(one.group) if long is not None else None
        owner = known.facts.owner(one.partition) if known is not None and known.facts is not None else None
        progress = known.progress if known is not None else None
        offsets = progress.offsets.get(one.partition) if progress is not None else None
        by = offsets.by if offsets is not None else ""
        return {
            "partition": f"{one.group}/{one.partition}" if several else one.partition,
            "owner": by or (owner.id if owner is not None else ""),
            "owned": owner is not None or known is None or known.facts is None,
            "lag": one.lag,
            "age_ms": one.age_ms,
            "watermark": one.watermark,
            "stands": one in old or one.age_ms is None or one.age_ms > WIDE_SECONDS * 1000,
        }

    slowest = sorted(status.partitions, key=lambda one: (one.age_ms is not None, -(one.age_ms or 0), one.partition))
    return [row(one) for one in slowest]


def _reads(seen: Seen) -> list[dict[str, Any]]:
    """How reads are answered, each second."""
    hits, memory = seen.rate("neverstale_reads_total", how="hit"), seen.rate("neverstale_l1_hits_total")
    rates = {"memory": memory, "Redis": max(hits - memory, 0.0)}
    rates |= {how: seen.rate("neverstale_reads_total", how=how) for how in HOWS}
    every = sum(rates.values())
    return [
        {"how": how, "rate": round(rate, 1), "share": rate / every if every else 0.0} for how, rate in rates.items()
    ]


def _figures(seen: Seen) -> list[dict[str, Any]]:
    """What is worth a number of its own; each with whether it is well."""
    look, long = seen.last, seen.long
    shed, limited = seen.rate("neverstale_shed_total"), seen.rate("neverstale_limited_total")
    open_breakers = sorted(
        {
            labels["server"]
            for one in look.answering("api")
            for labels, value in one.samples.of("neverstale_breaker_open")
            if value
        }
    )
    memory = sum(one.samples.total("neverstale_l1_bytes") for one in look.answering("api"))
    figures: list[tuple[str, str, bool]] = [
        ("reads refused to protect MongoDB", f"{_number(shed)} reads/s", not shed),
        ("requests over a caller's limit", f"{_number(limited)} requests/s", True),
        ("servers that reads avoid", ", ".join(open_breakers) or "none", not open_breakers),
        ("memory of API processes", f"{memory / 2**20:.1f} MiB", True),
        ("watching", _leaders(look), _each_is_watched(look, long)),
        (
            "oplog",
            _oplog(long),
            long is None or long.oplog is None or all(one > long.oplog.first for one in _positions(long)),
        ),
        (
            "dead letters",
            "unknown" if long is None or long.letters is None else str(long.letters),
            not (long and long.letters),
        ),
        ("lists, counters, rankings", _generations(long), True),
    ]
    if (audited := _audited(look)) is not None:
        figures.insert(0, ("answers that an auditor found true", *audited))
    return [{"name": name, "value": value, "well": well} for name, value, well in figures]


def _audited(look: QuickLook) -> tuple[str, bool] | None:
    """What auditors have found, and whether it is well; `None`: none runs, or none has found anything yet."""
    samples = [one.samples for one in look.answering("auditor")]
    nines = min((value for one in samples for _, value in one.of("neverstale_audit_nines")), default=None)
    wrong = sum(one.total("neverstale_audit_wrong_total") for one in samples)
    if nines is None and not wrong:
        return None
    told = "" if nines is None else f"{nines:.1f} nines in the last hour"
    return (told, True) if not wrong else (f"{told}; {wrong:.0f} were wrong".removeprefix("; "), False)


def _oplog(long: LongLook | None) -> str:
    if long is None or long.oplog is None:
        return "unknown"
    reach = seconds(long.oplog.window_seconds)
    if not (positions := _positions(long)):
        return f"no position stored, of {reach}"
    return f"position {seconds(max((long.oplog.last >> 32) - (min(positions) >> 32), 0))} old, of {reach}"


def _positions(long: LongLook) -> list[Version]:
    """Of the watchers that have stored one."""
    return [one.position for one in long.groups.values() if one.position is not None]


def _generations(long: LongLook | None) -> str:
    if long is None or long.generations is None:
        return "unknown"
    said = [
        f"{name}: {'; '.join(one.phase for one in all_) or 'none yet'}" for name, all_ in long.generations.items()
    ]
    return ", ".join(said) or "none declared"


def _process(one: ProcessLook, seen: Seen, now_ms: int) -> dict[str, Any]:
    memory = one.samples.total("process_resident_memory_bytes")
    says = {
        "answers": "; ".join(f"{part}: {wrong}" for part, wrong in one.wrong.items() if part not in ALWAYS) or "well",
        "silent": f"no answer for {seconds(seen.silent.get(one.role.instance, 0.0))}",
        "gone": "has ended, or cannot be reached",
    }
    return {
        "role": one.role.role,
        "instance": one.role.instance,
        "where": f"process {one.role.pid} on {one.role.host}",
        "up": seconds(max(now_ms - one.role.started_ms, 0) / 1000),
        "memory": f"{memory / 2**20:.0f} MiB" if memory else "",
        "presence": one.presence,
        "says": says[one.presence],
        "version": one.role.version,
    }
