"""The auditor on real servers: a cache that tells the truth, and one that does not."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from neverstale.keys import canonical
from neverstale.ops.auditor.counts import AuditCounts, total
from neverstale.ops.auditor.main import Parts, audit_for, open_audit
from neverstale.ops.auditor.nines import nines
from neverstale.ops.status import gather
from neverstale.redis import audit
from neverstale.redis.entries import etag_of
from neverstale.role import telemetry
from neverstale.settings import Settings
from tests.support.waiting import eventually
from tests.worlds import hits
from tests.worlds.deriving import RESOURCE
from tests.worlds.serving import Served, flight, serving

KINDS = ("documents", "pages", "counters", "rankings")


@dataclass
class Audited:
    served: Served
    hot: hits.Served
    settings: Settings

    async def audit(self, seconds: float) -> Parts:
        return await audit_for(self.settings, self.served.world.catalog, seconds)


@pytest.fixture
async def audited(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Audited]:
    async with serving(mongo_uri, kafka_servers, redis_url) as served, hits.Served.of(served.world) as hot:
        given = {
            "urls": f"http://127.0.0.1:{hot.port}",
            "reads_per_second": 500,
            "mongodb_reads_per_second": 200,
            "again_seconds": 0.5,
        }
        ours = served.world.settings.auditor.model_copy(update=given)
        yield Audited(served, hot, served.world.settings.model_copy(update={"auditor": ours}))


async def test_what_is_right_is_counted_and_a_cache_that_lies_is_found_with_its_evidence(audited: Audited) -> None:
    served = audited.served
    version = await served.write(*(flight(f"f{number}", day=number % 3, delay=number) for number in range(30)))
    await served.applied(version)
    found: dict[str, AuditCounts] = {}

    async def all_kinds() -> bool:
        parts = await audited.audit(1.5)
        whole = total(parts.auditor.ledger.all.values())
        assert (whole.wrong, whole.permanent, list(parts.witness.kept)) == (0, 0, [])
        for (_, kind), counts in parts.auditor.ledger.all.items():
            found.setdefault(kind, AuditCounts()).add(counts)
        return all(kind in found and found[kind].checked > 3 for kind in KINDS)

    await eventually(all_kinds, "documents, pages, counters and rankings are checked", 60)
    await lie(served, "f7")
    audited.hot.hot.l1.clear()
    parts = await audited.audit(2)

    async def found_out() -> bool:
        nonlocal parts
        counts = parts.auditor.ledger.all[RESOURCE, "documents"]
        if not (counts.wrong and counts.permanent):
            parts = await audited.audit(2)  # which documents are asked for is chance
        return counts.wrong > 0 and counts.permanent > 0

    await eventually(found_out, "the lie is found", 60)
    evidence = parts.witness.kept[0]
    assert evidence["path"] == f"/v1/{RESOURCE}/f7"
    assert evidence["entry"]["state"] == "data" and evidence["watermarks"] and evidence["reached"]
    assert evidence["kafka"] and "a lie" not in json.dumps(evidence)
    assert (await audit.kept_evidence(served.world.cache, 10))[0] == evidence
    await told_everywhere(audited, parts)


async def lie(served: Served, key: str) -> None:
    """As no step of ours does: another body under the header of an entry that is there."""
    await served.world.http.get(f"/v1/{RESOURCE}/{key}")
    name = served.world.cache.names.entry(RESOURCE, canonical(key))

    async def cached() -> bool:
        return (await served.world.redis.get(name) or b"")[:1] == b"D"

    await eventually(cached, f"{key} is cached")
    raw = await served.world.redis.get(name)
    assert isinstance(raw, bytes)
    body = b'{"_id":"%b","origin":"a lie"}' % key.encode()
    await served.world.redis.set(name, raw[:80] + etag_of(body) + body, keepttl=True)


async def told_everywhere(audited: Audited, found: Parts) -> None:
    """What was found is told to who asks for freshness and for the status, and to the next auditor."""
    served, catalog = audited.served, audited.served.world.catalog
    async with open_audit(audited.settings, catalog, fills=False) as parts:
        parts.auditor.ledger.add(
            (RESOURCE, "documents"), found.auditor.ledger.all[RESOURCE, "documents"], time.time()
        )
        await parts.tell("h-1")
    resource = (await served.world.http.get("/v1/freshness")).json()["resources"][RESOURCE]
    kind = resource["audit"]["kinds"]["documents"]
    assert kind["checked"] > kind["wrong"] > 0 and resource["audit"]["at_ms"] > 0
    assert kind["nines"] == nines(kind["wrong"], kind["checked"])
    shown = telemetry.REGISTRY.get_sample_value("neverstale_audit_nines", {"resource": RESOURCE})
    assert shown == kind["nines"]
    status = await gather(audited.settings, catalog)
    assert status.audit is not None
    assert status.audit["resources"][RESOURCE]["documents"]["nines"] == kind["nines"]
    assert any("were wrong in the last hour" in problem for problem in status.problems)
    async with open_audit(audited.settings, catalog, fills=False) as parts:
        await parts.restore()
        assert parts.auditor.ledger.last_hour(time.time())[RESOURCE, "documents"].wrong == kind["wrong"]
    await served.world.redis.set(served.world.cache.names.audit, b'{"format":1,"resources":{"a":{"pages":{}}}}')
    assert "audit" not in (await served.world.http.get("/v1/freshness")).json()["resources"][RESOURCE]
