"""Clients of ours against the API, on real servers, with the demo's catalog; and the examples in the docs."""

import asyncio
import json
import os
import re
import shutil
import textwrap
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from neverstale.client import Ambiguous, AsyncClient, Demand, NothingThere, NotInCache, Session, WrongRequest
from tests.support.opened import ordinary
from tests.support.project import ROOT
from tests.worlds import hits
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.serving import Served, flight, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEMO = tomllib.loads((ROOT / "catalog.toml").read_text("utf-8"))["resources"]
DAY = "2013-02-08"
KEY = f"{DAY}:UA571:LGA"
DOC = (ROOT / "docs" / "clients.md").read_text("utf-8")
EXAMPLES, SCRIPTS = (re.findall(rf"^```{language}\n(.*?)^```", DOC, re.M | re.S) for language in ("python", "ts"))
TYPESCRIPT = ROOT / "clients" / "typescript"


def departure(key: str, origin: str | None, delay: int) -> dict[str, object]:
    return flight(key, origin=origin, day=DAY, dep_delay=delay, carrier="UA", gate="", sched_dep=delay)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Served]:
    others = {name: one for name, one in DEMO.items() if name != "flights"}
    async with serving(
        mongo_uri, kafka_servers, redis_url, DEMO["flights"] | {"lookups": ["tailnum"]}, others
    ) as served:
        database = served.deriving.mongo[served.deriving.catalog.database]
        await database.airlines.insert_one({"_id": "UA", "name": "United Air Lines Inc."})
        some = [departure(f"c{number}", "LGA", number) | {"tailnum": f"C{number}"} for number in range(5)]
        odd = departure("c/5 é", None, 0) | {"tailnum": "C0"}
        await served.applied(await served.write(*some, odd, departure(KEY, "LGA", 379)))
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(served: Served) -> AsyncIterator[str]:
    async with hits.Served.of(served.world) as hot:
        yield f"http://127.0.0.1:{hot.port}"


async def test_a_session_reads_its_own_writes(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str
) -> None:
    """While no consumer tells the cache anything."""
    async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1})
        await world.http.get("/v1/things/a")
        await world.until_filled("things", "a")
        reads = Session()
        async with world.mongo.start_session() as session:
            await world.mongo[database]["things"].update_one({"_id": "a"}, {"$set": {"n": 2}}, session=session)
            reads.wrote(session)
        transport = httpx.ASGITransport(ordinary(world.app, world.state))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", event_hooks=reads.async_hooks()
        ) as http:
            # Anybody else is told what the cache holds.
            assert (await world.http.get("/v1/things/a")).json()["n"] == 1
            assert (await http.get("/v1/things/a")).json()["n"] == 2
        assert reads.headers
        async with AsyncClient("http://api", transport=transport, session=reads) as api:
            fresh = await api.get("things", "a")
            assert (fresh.value, fresh.how) == ({"_id": "a", "n": 2}, "request")
            assert fresh.version is not None and fresh.version >= reads.version


async def test_documents_are_read_one_by_one_many_at_once_and_by_another_field(url: str) -> None:
    async with AsyncClient(url) as api:
        one = await api.get("flights", "c/5 é")
        assert one.value is not None and one.value["_id"] == "c/5 é"
        assert one.bound is not None and one.version is not None and one.etag
        absent = await api.get("flights", "nobody")
        dots = await api.get("flights", "..")
        assert absent.value is None and absent.bound is not None
        assert dots.value is None and dots.bound is not None
        many = await api.get_many("flights", ["c1", "nobody", "c/5 é"])
        assert [key for key, value in many.value.items() if value] == ["c1", "c/5 é"]
        looked_up = await api.lookup("flights", "tailnum", "C3")
        assert looked_up.value is not None and looked_up.value["_id"] == "c3"
        assert (await api.lookup("flights", "tailnum", "nobody")).value is None


async def test_pages_counts_and_rankings_are_what_they_say(url: str) -> None:
    async with AsyncClient(url) as api:
        lists = [page async for page in api.pages("flights", "departures", {"origin": "LGA", "day": DAY})]
        assert [item["_id"] for page in lists for item in page.value.items] == [*(f"c{n}" for n in range(5)), KEY]
        missing = await api.page("flights", "departures", {"origin": None, "day": DAY})
        assert [item["_id"] for item in missing.value.items] == ["c/5 é"]
        one = (await api.count("flights", "by_carrier", {"carrier": "UA"})).value
        assert (one.count, one.sums, one.averages) == (7, {"delay_minutes": 389}, {"delay_minutes": 389 / 7})
        groups = await api.counts("flights", "by_status", {"status": "s"}, group=["origin"], limit=10)
        assert ({"origin": "LGA"}, 6) in [(by, count.count) for by, count in groups.value.groups]
        top = await api.ranking("flights", "most_delayed", {"day": DAY}, limit=2)
        assert [(place.key, place.score, place.rank) for place in top.value] == [(KEY, 379, 1), ("c4", 4, 2)]
        place = (await api.rank("flights", "most_delayed", "c4", {"day": DAY}, around=1)).value
        assert place is not None and [one.key for one in place.around] == [KEY, "c4", "c3"]
        assert (await api.rank("flights", "most_delayed", "nobody", {"day": DAY})).value is None


async def test_demands_and_failures_are_told_apart(url: str) -> None:
    async with AsyncClient(url) as api:
        assert (await api.get("flights", "c1", Demand(no_cache=True))).how == "request"
        with pytest.raises(NotInCache):
            await api.get("flights", "never-asked-for", Demand(only_if_cached=True))
        with pytest.raises(Ambiguous, match="More than one document"):
            await api.lookup("flights", "tailnum", "C0")
        with pytest.raises(NothingThere):
            await api.page("flights", "nothing")
        with pytest.raises(WrongRequest) as wrong:
            await api.count("flights", "by_carrier", {"nothing": 1})
        assert wrong.value.members["parameter"] == "nothing:int"


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
async def test_the_examples_in_the_docs_run(
    served: Served, url: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    database = served.deriving.catalog.database
    code = example.replace("http://127.0.0.1:8000", url).replace('mongo["nyc"]', f'mongo["{database}"]')
    names: dict[str, object] = {"mongo": served.deriving.mongo}
    exec(f"async def example():\n{textwrap.indent(code, '    ')}", names)
    async with asyncio.timeout(60):
        await names["example"]()  # type: ignore[operator]
    assert capsys.readouterr().out, "it prints something"


# --- TypeScript


async def run(*command: str | Path, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def compiled(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, its test and the examples, compiled against the types of this API. Node and npm come with CI's
    machine; elsewhere there may be none. Nothing but `npm ci` uses the network, and only where it has not yet."""
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("there is no npm")
    lock, installed = TYPESCRIPT / "package-lock.json", TYPESCRIPT / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        await run("npm", "ci", "--no-audit", "--no-fund", "--prefer-offline", cwd=TYPESCRIPT)
    binaries, work = TYPESCRIPT / "node_modules" / ".bin", tmp_path_factory.mktemp("typescript")
    shutil.copytree(TYPESCRIPT / "src", work / "src")
    shutil.copy(TYPESCRIPT / "test" / "stack.ts", work / "src")
    for name in ("tsconfig.json", "package.json"):
        shutil.copy(TYPESCRIPT / name, work)
    for number, script in enumerate(SCRIPTS):
        ours = script.replace('"neverstale-client"', '"./client.js"').replace("http://127.0.0.1:8000", url)
        (work / "src" / f"example{number}.ts").write_text(ours, "utf-8")
    async with httpx.AsyncClient() as http:
        described = await http.get(f"{url}/openapi.json")
    (work / "openapi.json").write_bytes(described.content)
    await run(binaries / "openapi-typescript", "openapi.json", "-o", "src/api.d.ts", cwd=work)
    await run(binaries / "tsc", "-p", "tsconfig.json", cwd=work)
    return work / "dist"


async def test_the_typescript_client_reads_all_that_there_is_and_watches(
    served: Served, url: str, compiled: Path
) -> None:
    version = await served.write(departure(KEY, "LGA", 379) | {"gate": "g0"})
    await served.applied(version)
    process = await asyncio.create_subprocess_exec(
        "node", str(compiled / "stack.js"), url, KEY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    said: dict[str, Any] = {}
    seen: list[str] = []
    try:
        async with asyncio.timeout(60):
            async for line in process.stdout:
                name, what = json.loads(line)
                if name != "live":
                    said[name] = what
                    continue
                seen.append(what)
                if what == "g3":
                    await served.documents.delete_one({"_id": KEY})
                elif what is not None:
                    await served.write(departure(KEY, "LGA", 379) | {"gate": f"g{int(what[1:]) + 1}"})
            assert await process.wait() == 0, (await process.stderr.read()).decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await served.write(departure(KEY, "LGA", 379))
    assert seen == ["g0", "g1", "g2", "g3", None]
    rows = [*(f"c{number}" for number in range(5)), KEY]
    assert said == {
        "document": ["g0", KEY, True, True],
        "absent": None,
        "dots": "RangeError",
        "dots in keys": [{"key": "..", "value": None}],
        "many": [KEY, None],
        "page": rows,
        "count": [7, 389],
        "ranking": [[KEY, 379, 1]],
        "lookup": "UA",
        "demand": "neverstale; fwd=request; detail=mongodb",
        "session": [True, True],
        "problem": [400, "urn:neverstale:bad-parameter", "cursor", False],
        "bearer": ["Bearer token1", "Bearer token2"],
        "after": [True, True, True],
    }


async def test_the_typescript_examples_in_the_docs_run(compiled: Path) -> None:
    for number in range(len(SCRIPTS)):
        assert await run("node", f"example{number}.js", cwd=compiled), "it prints something"
