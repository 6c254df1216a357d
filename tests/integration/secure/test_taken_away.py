"""Certificates, passwords and rights that are missing give the error of docs/security.md, and nothing waits without
end. Given, it works without a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from pymongo import AsyncMongoClient

from neverstale.errors import KafkaRefuses, Outage
from neverstale.kafka.producer import started_producer
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names
from neverstale.ops import servers as asked
from neverstale.ops.privileges import mongodb as mongodb_privileges
from neverstale.ops.privileges.roles import Role, user_of
from neverstale.redis.cache import Cache
from neverstale.servers import redis_client
from neverstale.settings import Settings
from tests.support.authority import Authority
from tests.support.project import ROOT
from tests.worlds.secured import PASSWORD
from tests.worlds.secured_pipeline import RESOURCE, Place

DEADLINE_SECONDS: Final = 20.0
DOCUMENTED: Final = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def changed(settings: Settings, section: str, **changes: Any) -> Settings:
    given = settings.model_dump()
    given[section] |= changes
    return Settings.model_validate(given)


async def said(question: Awaitable[object]) -> str:
    """What is said of a question that is refused; it must be documented, and come soon."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        try:
            await question
        except (KafkaRefuses, Outage) as error:
            return error.reason
    return "nothing"


def documented(reason: str) -> bool:
    return any(word in DOCUMENTED for word in (f"`{reason}`", f"`{reason.split(' for topic')[0]}`"))


# --- Kafka


def kafka(place: Place, role: Role = "watcher", *, certificate: bool = False) -> Settings:
    return place.servers.settings(role, place.base, certificate=certificate)


async def write_to(settings: Settings) -> None:
    """As a watcher does."""
    await ensure_topic(settings.kafka)
    async with started_producer(settings.kafka) as producer:
        try:
            await producer.send_and_wait(settings.kafka.topic, b"x", partition=0)
        except Exception as error:
            raise Outage("kafka", type(error).__name__) from None


NOT_OURS: Final = "it refuses the certificate that we show, or that we show none"


async def test_kafka_says_which_certificate_is_not_taken(place: Place) -> None:
    authority, ours = place.servers.authority, kafka(place, certificate=True)
    other = Authority(authority.folder / "other")
    foreign = other.issue(user_of("watcher"))
    ended = authority.issue(user_of("watcher"), file="ended", not_after=datetime(2021, 1, 1))  # noqa: DTZ001
    assert await said(write_to(ours)) == "nothing"
    without = changed(ours, "kafka", ssl_certfile=None, ssl_keyfile=None)
    assert await said(ensure_topic(without.kafka)) == NOT_OURS
    for shown in (foreign, ended):
        wrong = changed(ours, "kafka", ssl_certfile=shown.certificate, ssl_keyfile=shown.key)
        assert await said(ensure_topic(wrong.kafka)) == NOT_OURS
    mistrusted = await said(ensure_topic(changed(ours, "kafka", ssl_cafile=other.file).kafka))
    assert mistrusted.startswith("its certificate is not trusted")
    assert documented(NOT_OURS) and documented("its certificate is not trusted")


# --- Redis


async def read_from(settings: Settings) -> None:
    """As the API does."""
    client = redis_client(settings.redis, timeout_ms=5000)
    try:
        cache = Cache(client, Names(settings.redis.prefix))
        key = cache.names.entry(RESOURCE, "s:1")
        await cache.read(RESOURCE, [key])
        await cache.lease(RESOURCE, [key], 0, 1000)
    finally:
        await client.aclose()


async def test_redis_says_what_is_missing(place: Place) -> None:
    ours = place.servers.settings("api", place.base)
    other = Authority(place.servers.authority.folder / "redis-other")
    foreign = other.issue(user_of("api"))
    assert await said(read_from(ours)) == "nothing"
    url = ours.redis.url.get_secret_value()
    cases: dict[str, dict[str, Any]] = {
        "AuthenticationError": {"url": url.replace(PASSWORD, "wrong")},
        "ConnectionError": {"ssl_certfile": None, "ssl_keyfile": None},
        "ConnectionError ": {"ssl_certfile": foreign.certificate, "ssl_keyfile": foreign.key},
        "ConnectionError  ": {"ssl_cafile": other.file},
        "NoPermissionError": {"prefix": "another"},
    }
    for reason, changes in cases.items():
        assert await said(read_from(changed(ours, "redis", **changes))) == reason.strip(), changes
        assert documented(reason.strip())


# --- MongoDB


async def look_into(settings: Settings, place: Place) -> None:
    async with asked.mongodb(settings.mongodb) as client:
        await client[place.catalog.database].command({"find": RESOURCE, "limit": 1})


async def test_mongodb_says_what_is_missing(place: Place) -> None:
    ours = place.servers.settings("api", place.base)
    other = Authority(place.servers.authority.folder / "mongodb-other")
    quick = changed(ours, "mongodb", server_selection_timeout_ms=1500)
    uri = quick.mongodb.uri.get_secret_value()
    assert await said(look_into(quick, place)) == "nothing"
    wrong = changed(quick, "mongodb", uri=uri.replace(PASSWORD, "wrong"))
    assert await said(look_into(wrong, place)) == "it refuses user or password"
    mistrusting = changed(
        quick, "mongodb", uri=uri.replace(str(place.servers.authority.file).replace("/", "%2F"), str(other.file))
    )
    assert "no usable member answered" in await said(look_into(mistrusting, place))
    database, role = place.catalog.database, mongodb_privileges.name_of("api")
    privileges = mongodb_privileges.creation("api", database, list(place.catalog.collections))["privileges"]
    async with AsyncMongoClient[dict[str, Any]](place.servers.mongo_admin) as admin:
        await admin[database].command({"revokePrivilegesFromRole": role, "privileges": privileges})
        reason = await said(look_into(quick, place))
        await admin[database].command({"grantPrivilegesToRole": role, "privileges": privileges})
    assert reason == "the user may not do this, or no user is given"
    assert await said(look_into(quick, place)) == "nothing"


# --- certificates that are renewed


async def renewed(place: Place, ask: Callable[[Settings], Awaitable[None]], section: str) -> None:
    """A client shows a certificate that is not taken, and then one that is, in the same files."""
    authority = place.servers.authority
    name = user_of("watcher")
    shown = authority.issue(name, file=f"renewed-{section}")
    ours = changed(
        kafka(place, "watcher", certificate=True), section, ssl_certfile=shown.certificate, ssl_keyfile=shown.key
    )
    assert await said(ask(ours)) == "nothing"
    authority.issue(name, file=f"renewed-{section}", not_after=datetime(2021, 1, 1))  # noqa: DTZ001
    assert await said(ask(ours)) != "nothing"
    authority.issue(name, file=f"renewed-{section}")
    assert await said(ask(ours)) == "nothing"


async def test_kafka_is_shown_the_certificate_that_is_there_now(place: Place) -> None:
    await renewed(place, write_to, "kafka")


async def test_redis_is_shown_the_certificate_that_is_there_now(place: Place) -> None:
    async def say_that_it_runs(settings: Settings) -> None:
        client = redis_client(settings.redis, timeout_ms=5000)
        try:
            await client.set(Names(settings.redis.prefix).role("watcher", "test"), b"{}", ex=1)
        except Exception as error:
            raise Outage("redis", type(error).__name__) from None
        finally:
            await client.aclose()

    await renewed(place, say_that_it_runs, "redis")
