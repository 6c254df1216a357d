"""The record: what the auditor tells of its last hour, see `neverstale.redis.audit`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from neverstale.ops.auditor.counts import KINDS, About, AuditCounts, Ledger


def record_of(
    hour: Mapping[About, AuditCounts], since: float, rate: float, problems: Sequence[str]
) -> dict[str, Any]:
    return {
        "at_ms": round(time.time() * 1000),
        "since_ms": round(since * 1000),
        "reads_per_second": round(rate, 1),
        "problems": list(problems),
        "resources": by_resource(hour),
    }


def by_resource(found: Mapping[About, AuditCounts]) -> dict[str, dict[str, Any]]:
    """Resource -> kind -> counts as JSON, without kinds of which nothing was asked."""
    told: dict[str, dict[str, Any]] = {}
    for (resource, kind), counts in sorted(found.items(), key=lambda item: (item[0][0], KINDS.index(item[0][1]))):
        told.setdefault(resource, {})[kind] = counts.as_json()
    return told


def restored(record: Mapping[str, Any], ledger: Ledger) -> None:
    """Begin with what another auditor has told; what cannot be read is forgotten."""
    try:
        found: dict[About, AuditCounts] = {
            (resource, kind): AuditCounts.of_json(kinds[kind])
            for resource, kinds in record["resources"].items()
            for kind in KINDS
            if kind in kinds
        }
        since = float(record["since_ms"]) / 1000
    except (LookupError, TypeError, ValueError):
        return
    ledger.restore(since, found)
