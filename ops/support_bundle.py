"""`neverstale support-bundle`: all that somebody needs who helps from afar, in one file, and no secret.

In it are settings, catalog, findings of `doctor`, `status`, what each role says of itself (`/metrics`, `/readyz`),
what Redis, Kafka and MongoDB say of themselves, and versions. Not in it: documents, keys of documents, the
environment, logs. Secrets are hidden where they are known to be; in the end every one of them that the settings hold
is looked for in all that was gathered, and struck out, wherever it may have come from.
"""

import asyncio
import io
import json
import platform
import re
import sys
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from pydantic import SecretStr

from neverstale import __version__
from neverstale.catalog import Catalog
from neverstale.errors import NeverstaleError
from neverstale.kafka.dead_letters import topic_of
from neverstale.ops import servers
from neverstale.ops.doctor.doctor import doctor
from neverstale.ops.doctor.group import group_facts
from neverstale.ops.http_client import Connection
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.settings_report import rows
from neverstale.ops.status import gather
from neverstale.ops.why.held import service_address_of
from neverstale.settings import Kafka, Settings
from neverstale.settings.sources import Origins, fields
from neverstale.watcher_groups import watcher_groups

SECONDS: Final = 5.0
HIDDEN: Final = "***"
IN_URL: Final = re.compile(r"(?<=://)([^\s/:@\"']*):[^\s/@\"']+@")
"""User and password of a URL, of whatever server, and whoever wrote it there."""
LEAST_SECRET: Final = 4
"""Shorter passwords would strike out parts of ordinary words; they are hidden where they stand, in URLs."""
_TOLD_BY_REDIS: Final = ("server", "clients", "memory", "persistence", "stats", "replication", "keyspace")
_PACKAGES: Final = ("pymongo", "redis", "aiokafka", "fastapi", "starlette", "uvicorn", "uvloop", "pydantic", "orjson")


async def support_bundle(settings: Settings, origins: Origins, catalog: Catalog, target: Path) -> list[str]:
    """Write the file; answers the names of what is in it. What cannot be had is in it as the reason."""
    gathered = await gathered_of(settings, origins, catalog)
    secrets = list(secrets_of(settings))
    clean = {_plain(without(secrets, name)): without(secrets, text) for name, text in gathered.items()}
    await asyncio.to_thread(_write, target, clean)
    return list(clean)


def _plain(name: str) -> str:
    """What a role calls itself stands in Redis, where others may write: it names no other place."""
    return re.sub(r"[^\w.*-]", "_", name)


def _write(target: Path, texts: Mapping[str, str]) -> None:
    folder = f"neverstale-support-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    target.touch(mode=0o600)
    with tarfile.open(target, "w:gz") as archive:
        for name, text in texts.items():
            held = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(held), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(held))


async def gathered_of(settings: Settings, origins: Origins, catalog: Catalog) -> dict[str, str]:
    """Name -> text, before secrets are struck out."""
    status = await gather(settings, catalog)
    parts: dict[str, Callable[[], Awaitable[Any]]] = {
        "doctor.json": lambda: _findings(settings, catalog),
        "mongodb.json": lambda: _mongodb(settings),
        "kafka.json": lambda: _kafka(settings, catalog),
        "redis.json": lambda: _redis(settings),
    }
    answers = await asyncio.gather(*(_or_reason(ask) for ask in parts.values()))
    found = {
        "about.json": _json(_about()),
        "settings.json": _json([asdict(row) for row in rows(settings, origins)]),
        "catalog.toml": settings.catalog.read_text(encoding="utf-8", errors="replace"),
        "status.json": _json({"ok": status.ok, **asdict(status)}),
        **{name: _json(answer) for name, answer in zip(parts, answers, strict=True)},
    }
    for role in status.roles:
        found |= await _of_role(role)
    return found


async def _or_reason(ask: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await ask()
    except NeverstaleError as error:
        return {"problem": str(error)}


def _about() -> dict[str, Any]:
    packages = {one.metadata["Name"].lower(): one.version for one in distributions()}
    return {
        "neverstale": __version__,
        "python": sys.version,
        "platform": platform.platform(),
        "gathered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": {name: packages.get(name) for name in _PACKAGES},
    }


async def _findings(settings: Settings, catalog: Catalog) -> Any:
    return [asdict(finding) for finding in await doctor(settings, catalog)]


async def _mongodb(settings: Settings) -> Any:
    async with servers.mongodb(settings.mongodb) as client:
        hello = await client.admin.command("hello")
        told = ("setName", "hosts", "arbiters", "passives", "primary", "maxWireVersion", "localTime")
        return {"version": (await servers.mongo_facts(client)).version} | {n: hello[n] for n in told if n in hello}


async def _kafka(settings: Settings, catalog: Catalog) -> Any:
    """Watcher group -> its topics and its consumer group."""
    async with servers.kafka_admin(settings.kafka) as admin:
        return {one.name: await _kafka_of(admin, one.settings.kafka) for one in watcher_groups(settings, catalog)}


async def _kafka_of(admin: AIOKafkaAdminClient, kafka: Kafka) -> dict[str, Any]:
    changes = await servers.kafka_facts(admin, kafka.topic)
    dead = await servers.kafka_facts(admin, topic_of(kafka).topic)
    offsets = await servers.kafka_offsets(admin, kafka, len(changes.replicas or ()))
    return {
        "topic": asdict(changes),
        "dead letters": asdict(dead),
        "group": asdict(await group_facts(admin, kafka)),
        "offsets": {number: asdict(one) for number, one in offsets.items()},
    }


async def _redis(settings: Settings) -> Any:
    async with servers.redis(settings.redis) as client:
        return {section: await client.info(section) for section in _TOLD_BY_REDIS}


async def _of_role(role: RoleStatus) -> dict[str, str]:
    """What it says of itself; one worker of several speaks for an API."""
    found: dict[str, str] = {}
    address = service_address_of(role)
    if address is None:
        return found
    for path in ("/readyz", "/metrics", *(("/v1/freshness",) if role.role == "api" else ())):
        name = f"{role.role}-{role.instance}{path.replace('/', '-')}.txt"
        found[name] = "it does not answer"
        with suppress(OSError, TimeoutError):
            connection = await Connection.open(address)
            try:
                answer = await connection.get(path, SECONDS, "Connection: close")
                found[name] = answer.body.decode(errors="replace")
            finally:
                connection.close()
    return found


def _json(answer: Any) -> str:
    return json.dumps(answer, indent=2, ensure_ascii=False, default=str)


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every secret that the settings hold, in each spelling in which it may be met."""
    for name in fields():
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            if "://" not in secret:
                yield secret
            elif "@" in secret:
                yield from _in_url(secret)


def _in_url(url: str) -> Iterator[str]:
    userinfo = url.partition("://")[2].rpartition("@")[0]
    _, colon, password = userinfo.partition(":")
    if colon and password:
        plain = unquote(password)
        yield from (password, plain, quote(plain, safe=""))
    with suppress(ValueError):
        for pair in urlsplit(url).query.split("&"):
            option, _, value = pair.partition("=")
            if "password" in option.lower() and value:
                yield from (value, unquote(value))


def without(secrets: list[str], text: str) -> str:
    """The text with every secret struck out, however it is spelled, the longest first."""
    spelled = {one for secret in secrets if len(secret) >= LEAST_SECRET for one in _spellings(secret)}
    for one in sorted(spelled, key=len, reverse=True):
        text = text.replace(one, HIDDEN)
    return IN_URL.sub(rf"\1:{HIDDEN}@", text)


def _spellings(secret: str) -> Iterator[str]:
    """As it is, in a URL, in JSON, and in a message that holds JSON and is told in JSON."""
    yield secret
    yield quote(secret, safe="")
    yield quote(secret)
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]


def print_bundle(target: Path, names: list[str], *, as_json: bool) -> None:
    """As JSON: `{file, holds}`."""
    answer: Mapping[str, Any] = {"file": str(target), "holds": names}
    if as_json:
        print(_json(answer))
        return
    print(f"{target} holds {len(names)} files; read them before you send it:")
    for name in names:
        print(f"  {name}")
