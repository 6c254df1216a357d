"""`neverstale run console` in Debian's Chromium, as people see it: while nothing runs, while all is well, with a
frozen consumer, with Redis away, and after its own end. Screenshots of each are kept."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

import httpx
import pytest

from neverstale.catalog import Catalog
from neverstale.ops.console.main import live
from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from neverstale.ops.stack.role import Role, RoleOptions, RunningRole, start_role
from neverstale.role.service import Health, Life
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.settings.sources import load
from tests.support.chromium import CHROMIUM, Page, keep, opened, shots
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH"),
    pytest.mark.usefixtures("forked_roles"),
]

CATALOG = """
[resources.things]
key_type = "string"
lookups = ["kind"]
[resources.things.counters.kinds]
by = ["kind"]
[resources.ids]
key_type = "objectid"
"""
SECONDS = 60.0
TAB, ENTER = ("Tab", 9), ("Enter", 13)


@dataclass
class Scene:
    """Servers, the console on them, and the roles that a test has started."""

    settings: Settings
    environment: dict[str, str]
    redis: RedisServer
    folder: Path
    life: Life
    exits: AsyncExitStack
    roles: dict[str, RunningRole] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.console.port}"

    async def start(self, role: Role) -> None:
        options = RoleOptions(
            role=role, name=f"{role}-1", data=self.folder, port=free_port(), environment=self.environment
        )
        self.roles[role] = await start_role(options)
        self.exits.callback(self.roles[role].kill)


@pytest.fixture
async def scene(
    mongo_uri: str, kafka_servers: str, topic: str, database: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    (tmp_path / "catalog.toml").write_text(f'database = "{database}"\n{CATALOG}')
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        environment = {
            "NEVERSTALE_MONGODB__URI": mongo_uri,
            "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
            "NEVERSTALE_KAFKA__TOPIC": topic,
            "NEVERSTALE_KAFKA__GROUP": topic,
            "NEVERSTALE_KAFKA__PARTITIONS": "2",
            "NEVERSTALE_KAFKA__FETCH_MAX_WAIT_MS": "10",
            "NEVERSTALE_REDIS__URL": redis.url,
            "NEVERSTALE_REDIS__READ_TIMEOUT_MS": "2000",
            "NEVERSTALE_WATCHER__GROUP": topic,
            "NEVERSTALE_CATALOG": str(tmp_path / "catalog.toml"),
            "NEVERSTALE_CONSOLE__PORT": str(free_port()),
            "NEVERSTALE_CONSOLE__PERIOD_MS": "500",
        }
        settings, _ = load(environment)
        async with AsyncExitStack() as exits, _console(settings, tmp_path) as life:
            yield Scene(settings, environment, redis, tmp_path, life, exits)


@asynccontextmanager
async def _console(settings: Settings, folder: Path) -> AsyncIterator[Life]:
    life = Life("console", "test", asyncio.Event(), Health(), "")
    task = asyncio.create_task(live(settings, Catalog.load(folder / "catalog.toml"), life))
    try:
        yield life
    finally:
        life.stop.set()
        await task


async def text(page: Page) -> str:
    return str(await page.value("document.body ? document.body.innerText : ''"))


async def says(page: Page, *words: str) -> None:
    async def said() -> bool:
        shown = await text(page)
        return all(word in shown for word in words)

    try:
        await eventually(said, f"the page says {words}", SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{await text(page)}") from None


async def says_no_more(page: Page, word: str) -> None:
    """Other tests write much into this MongoDB, so of its oplog there may be a warning."""

    async def gone() -> bool:
        return word not in await text(page)

    await eventually(gone, f"the page says no more {word!r}", SECONDS)


async def test_the_page_alone_says_what_is_wrong_and_what_to_do(scene: Scene, tmp_path: Path) -> None:
    folder = shots(tmp_path / "screenshots")
    async with opened(f"{scene.url}/") as page:
        await says(
            page, "Nobody is served", "no watcher runs", "neverstale run watcher", "none has said that it runs"
        )
        await keep(page, folder, "console-nothing-runs")

        async with mongo_client(scene.settings.mongodb) as mongo:
            await mongo[scene_database(scene)]["things"].insert_one({"_id": "a/b", "kind": "x"})
        await asyncio.gather(*(scene.start(role) for role in ("watcher", "consumer", "api")))
        await says(page, "Every answer is at most", "weakest: partition", "one leads", "things: complete")
        await metrics_answer(scene)
        async with httpx.AsyncClient(base_url=scene.url, timeout=SECONDS) as http:
            for of in ("counters.kinds", "lookups.kind"):
                answer = await http.get("/why", params={"resource": "things", "of": of, "key": "kind=x"})
                assert answer.status_code == 200 and answer.json()["ok"], answer.text
        await ask_by_keyboard(page, "a/b")
        await says(page, "digest", "records wait")
        await keep(page, folder, "console-well")

        consumer = scene.roles["consumer"]
        consumer.signal(Signals.SIGSTOP)
        await says(page, "it is frozen", f"kill -9 {consumer.pid}", "neverstale run consumer", "1 silent")
        await keep(page, folder, "console-frozen")
        consumer.signal(Signals.SIGCONT)
        await says_no_more(page, "it is frozen")

        scene.redis.kill()
        await says(page, "Redis does not answer", "last known; away: Redis since", "redis-cli -u redis://")
        assert await page.value("document.getElementById('partitions').hasAttribute('data-old')")
        assert await page.value("document.getElementById('partitions').rows.length") == 2
        await keep(page, folder, "console-redis-away")

        scene.life.stop.set()
        await says(page, "The console does not answer: this is what it showed")
        assert not page.said or all("pictures" in line or "ERR_" in line for line in page.said)


NAMED: dict[Role, dict[str, Callable[[float], bool]]] = {
    "api": {
        "neverstale_build_info": lambda value: value == 1,
        "process_resident_memory_bytes": lambda value: value > 0,
        'neverstale_requests_total{route="/v1/things/{key}",status="200"}': lambda value: value > 0,
        "neverstale_hit_seconds_count": lambda value: value > 0,
        "neverstale_served_bound_seconds_count": lambda value: value > 0,
        "neverstale_bound_seconds": lambda value: value >= 0,
        "neverstale_watermark_age_seconds": lambda value: 0 <= value < SECONDS,
        'neverstale_generation{phase="complete",resource="things"}': lambda value: value == 1,
        "neverstale_l1_bytes": lambda value: value > 0,
        "neverstale_redis_changed_total": lambda value: value >= 0,
    },
    "watcher": {
        "neverstale_build_info": lambda value: value == 1,
        "neverstale_watcher_leads": lambda value: value == 1,
        "neverstale_oplog_headroom_seconds": lambda value: value > 0,
    },
    "consumer": {
        "neverstale_build_info": lambda value: value == 1,
        "neverstale_consumer_lag_records": lambda value: value >= 0,
        "neverstale_records_applied_total": lambda value: value > 0,
        "neverstale_rebalances_total": lambda value: value >= 0,
    },
}
"""Role -> metrics that operators go by, and what their values are while all is well."""


async def metrics_answer(scene: Scene) -> None:
    """The metrics that operators go by have values, and true ones. Few hits are measured, so some are made."""
    lacking: list[str] = []

    async def all_do() -> bool:
        async with httpx.AsyncClient() as http:
            for _ in range(20):
                await http.get(f"{scene.roles['api'].url}/v1/things/a%2Fb")
            lacking.clear()
            for role, wanted in NAMED.items():
                text = (await http.get(f"{scene.roles[role].url}/metrics")).text
                lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
                for name, holds in wanted.items():
                    series = [one for one in lines if one[0] == name or one[0].startswith(f"{name}{{")]
                    found = [float(value) for _, _, value in series]
                    if not found or not all(holds(value) for value in found):
                        lacking.append(f"{role}: {name} {found}")
        return not lacking

    try:
        await eventually(all_do, "all metrics have values", SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}: {lacking}") from None


async def ask_by_keyboard(page: Page, key: str) -> None:
    """From the top of the page to the answer, with no mouse."""
    await page.value("document.activeElement.blur()")
    for _ in range(30):
        await page.press(*TAB)
        if await page.value("document.activeElement.id") == "key":
            break
    else:
        raise AssertionError("the field is not reached by the keyboard")
    await page.send("Input.insertText", text=key)
    await page.press(*ENTER)


def scene_database(scene: Scene) -> str:
    return Catalog.load(scene.folder / "catalog.toml").database


QUESTIONS: list[tuple[dict[str, str], int, str]] = [
    ({"resource": "nothing", "key": "a"}, 400, "nothing is not declared"),
    ({"resource": "things", "key": "nobody"}, 200, "its absence is not cached"),
    ({"resource": "things", "key": "a/b?c=d&e#f%41"}, 200, "its absence is not cached"),
    ({"resource": "things", "key": "ключ \u202e\U0001f6eb"}, 200, "its absence is not cached"),
    ({"resource": "things", "key": "<script>alert(1)</script>"}, 200, "its absence is not cached"),
    ({"resource": "ids", "key": "5f0000000000000000000001"}, 200, "its absence is not cached"),
    ({"resource": "ids", "key": "no id"}, 400, "key_type says objectid"),
    ({"resource": "things", "of": "counters.none", "key": "kind=x"}, 400, "none"),
    ({"resource": "things", "of": "counters.kinds", "key": "color=x"}, 400, "color"),
    ({"resource": "things", "of": "counters.kinds", "key": ""}, 400, "kind"),
    ({"resource": "things", "of": "counters.kinds", "key": "kind=x"}, 200, "no process of the API answers"),
    ({"resource": "things", "of": "lookups.kind", "key": "kind=a%2Fb"}, 200, "no process of the API answers"),
    ({"resource": "ids", "of": "lists.any", "key": "kind=x"}, 400, "ids"),
]
"""Asked while nothing runs: the servers are real, and empty."""


async def test_a_name_that_was_made_to_lead_here_is_refused_and_wrong_questions_are_named(scene: Scene) -> None:
    async with httpx.AsyncClient(base_url=scene.url) as http:

        async def serves() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(serves, "the console serves", SECONDS)
        foreign = {"host": "attacker.example"}
        for path in ("/pictures", "/why?resource=things&key=a"):
            assert (await http.get(path, headers=foreign)).status_code == 421
        for question, status, words in QUESTIONS:
            answer = await http.get("/why", params=question, timeout=SECONDS)
            assert answer.status_code == status, (question, answer.text)
            assert words in answer.json()["problem" if status == 400 else "verdict"], answer.text
        page = await http.get("/")
        assert "default-src 'none'" in page.headers["content-security-policy"] and "<svg" in page.text
        assert (await http.post("/why")).status_code == 405
