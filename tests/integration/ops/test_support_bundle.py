"""`neverstale support-bundle` against real servers, with a secret in every place where one may be met."""

import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
import uvicorn
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from neverstale.catalog import Catalog
from neverstale.keys import Names
from neverstale.ops.stack.ports import free_port
from neverstale.ops.support_bundle import secrets_of, support_bundle
from neverstale.settings import Settings
from neverstale.settings.sources import fields, load
from tests.support.beside import beside
from tests.support.waiting import eventually

NOT_OURS = "another-pass"
"""Of a URL that somebody has left in a comment."""


def planted(place: str) -> str:
    return f's3cret-{place}/"ü'


SECRETS = {
    "MONGODB": "mongodb.uri",
    "REDIS": "redis.url",
    "KAFKA__SASL_PASSWORD": "kafka.sasl_password",
    "KAFKA__SSL_KEY_PASSWORD": "kafka.ssl_key_password",
    "REDIS__SENTINEL_PASSWORD": "redis.sentinel_password",
    "REDIS__SSL_KEY_PASSWORD": "redis.ssl_key_password",
    "API__CURSOR_SECRET": "api.cursor_secret",
    "AUDITOR__BEARER": "auditor.bearer",
}
"""Variable -> setting: all that may hold a secret."""


@pytest.fixture
async def talkative(
    mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, redis_prefix: str, database: str, tmp_path: Path
) -> AsyncIterator[Settings]:
    """Users with passwords, and a role, a catalog and cards that tell all of them."""
    catalog = tmp_path / "catalog.toml"
    told = "\n".join(planted(place) for place in SECRETS)
    catalog.write_text(
        f'database = "nyc"\n# {told.replace(chr(10), " ")} http://me:{NOT_OURS}@h/\n', encoding="utf-8"
    )
    mongodb, redis = (quote(planted(place), safe="") for place in ("MONGODB", "REDIS"))
    environ = {
        "NEVERSTALE_MONGODB__URI": mongo_uri.replace("mongodb://", f"mongodb://{database}:{mongodb}@").replace(
            "/?", "/?authSource=admin&"
        ),
        "NEVERSTALE_REDIS__URL": redis_url.replace("redis://", f"redis://{redis_prefix}:{redis}@"),
        "NEVERSTALE_REDIS__PREFIX": redis_prefix,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": topic,
        "NEVERSTALE_CATALOG": str(catalog),
    }
    settings = load(environ)[0]
    for place, name in SECRETS.items():
        if "__" in place:  # also where it would have no effect, which settings do not take
            section, field = name.split(".")
            secret = {field: SecretStr(planted(place))}
            settings = settings.model_copy(update={section: getattr(settings, section).model_copy(update=secret)})
    port = free_port()
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as mongo, Redis.from_url(redis_url) as client:
        await mongo.admin.command("createUser", database, pwd=planted("MONGODB"), roles=["root"])
        await client.acl_setuser(
            redis_prefix, enabled=True, passwords=[f"+{planted('REDIS')}"], keys=["*"], commands=["+@all"]
        )
        card = {"role": "api", "instance": f"../{planted('REDIS')}", "pid": 1, "host": told, "started_ms": 5}
        await client.set(
            Names(redis_prefix).role("api", "h-1"),
            orjson.dumps(card | {"url": f"http://127.0.0.1:{port}", "version": told}),
        )

        async def tell(_: Request) -> PlainTextResponse:
            return PlainTextResponse(told)

        app = Starlette(routes=[Route("/{path:path}", tell)])
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
        try:
            async with beside(server.serve()):
                await eventually(lambda: _serves(port), "the role tells all", 20)
                yield settings
        finally:
            await mongo.admin.command("dropUser", database)
            await client.acl_deluser(redis_prefix)


async def _serves(port: int) -> bool:
    try:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"http://127.0.0.1:{port}/")).status_code == 200
    except httpx.TransportError:
        return False


async def test_no_secret_is_in_the_file_whoever_tells_it_and_where(
    talkative: Settings, kafka_servers: str, topic: str, tmp_path: Path
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    target = tmp_path / "bundle.tar.gz"
    resources = {name: {"key_type": "string"} for name in ("flights", "airlines")}
    watchers = {"busy": {"collections": ["flights"]}}
    catalog = Catalog.model_validate({"database": "nyc", "watchers": watchers, "resources": resources})
    names = await support_bundle(talkative, dict.fromkeys(fields(), "environment"), catalog, target)
    with tarfile.open(target) as archive:
        members = archive.getmembers()
        texts = {one.name: archive.extractfile(one).read().decode() for one in members}  # type: ignore[union-attr]
    assert len(names) == len(texts) >= 8 and target.stat().st_mode & 0o077 == 0
    assert all(name.count("/") == 1 and ".." not in name.split("/") for name in texts)
    assert any("***" in text for name, text in texts.items() if name.endswith("metrics.txt"))
    [of_kafka] = [orjson.loads(text) for name, text in texts.items() if name.endswith("/kafka.json")]
    assert set(of_kafka) == {"default", "busy"} and of_kafka["default"]["topic"]["replicas"]
    everything = "\n".join([*texts, *texts.values()])
    secrets = {*secrets_of(talkative), NOT_OURS, *(planted(place) for place in SECRETS)}
    assert len(secrets) > len(SECRETS)
    assert [secret for secret in secrets if secret in everything] == [] and "s3cret" not in everything


def test_every_setting_that_holds_a_secret_is_planted() -> None:
    def kind(name: str) -> str:
        model: type = Settings
        for part in name.split("."):
            model = model.model_fields[part].annotation  # type: ignore[attr-defined]
        return str(model)

    assert {name for name in fields() if "Secret" in kind(name)} == set(SECRETS.values())
