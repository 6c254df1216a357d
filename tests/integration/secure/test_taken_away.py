"""Certificates, passwords and rights that are missing give the error of docs/security.md, and nothing waits without
end. Given, it works without a restart."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import ServerSelectionTimeoutError

from neverstale.errors import KafkaRefuses, Outage
from neverstale.kafka.producer import started_producer
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names
from neverstale.mongodb.control import CONTROL
from neverstale.ops import servers as asked
from neverstale.ops.privileges import mongodb as mongodb_privileges
from neverstale.ops.privileges import redis as redis_privileges
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.redis.cache import Cache
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import Settings
from tests.support.authority import Authority
from tests.support.project import ROOT
from tests.support.waiting import eventually
from tests.worlds.lacking import Right, Server, rights
from tests.worlds.lacking_roles import Lacking
from tests.worlds.secured import PASSWORD, showing_token, token
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


ENDED: Final = datetime(2021, 1, 1)  # noqa: DTZ001
NOT_OURS: Final = "it refuses the certificate that we show, or that we show none"


async def test_kafka_says_which_certificate_is_not_taken(place: Place) -> None:
    authority, ours = place.servers.authority, kafka(place, certificate=True)
    other = Authority(authority.folder / "other")
    foreign = other.issue(user_of("watcher"))
    ended = authority.issue(user_of("watcher"), file="ended", not_after=ENDED)
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
    ended = place.servers.authority.issue(user_of("api"), file="redis-ended", not_after=ENDED)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("AuthenticationError", {"url": url.replace(PASSWORD, "wrong")}),
        (NOT_OURS, {"ssl_certfile": None, "ssl_keyfile": None}),
        (NOT_OURS, {"ssl_certfile": foreign.certificate, "ssl_keyfile": foreign.key}),
        (NOT_OURS, {"ssl_certfile": ended.certificate, "ssl_keyfile": ended.key}),
        ("its certificate is not trusted", {"ssl_cafile": other.file}),
        ("NoPermissionError", {"prefix": "another"}),
    ]
    for reason, changes in cases:
        found = await said(read_from(changed(ours, "redis", **changes)))
        # A server that refuses our certificate may have hung up before we read that it does.
        assert found.startswith((reason, "ConnectionError" if reason == NOT_OURS else reason)), (changes, found)
        assert documented(reason)


async def test_kafka_says_that_it_does_not_believe_who_we_are(place: Place) -> None:
    wrong = changed(kafka(place), "kafka", sasl_password="wrong")
    assert (await said(ensure_topic(wrong.kafka))).startswith("SaslAuthenticationFailed")
    assert (await said(write_to(wrong))).startswith("SaslAuthenticationFailed")
    held = place.servers.authority.folder / "token"
    held.touch()
    by_token = changed(kafka(place), "kafka", **showing_token(held))
    for text in ("no.token.", token(user_of("watcher"), seconds=-60), ""):
        held.write_text(text)
        assert (await said(ensure_topic(by_token.kafka))).startswith("SaslAuthenticationFailed"), text
    held.write_text(token(user_of("watcher")))
    assert await said(write_to(by_token)) == "nothing"
    assert documented("SaslAuthenticationFailed")


# --- MongoDB


async def look_into(settings: Settings, place: Place) -> None:
    async with asked.mongodb(settings.mongodb) as client:
        await client[place.catalog.database].command({"find": RESOURCE, "limit": 1})


async def certificates_of_others_are_told(place: Place, other: Authority) -> None:
    """By who is known by his certificate, and shows a foreign one, one that has ended, or none."""
    settings = place.servers.settings("watcher", place.base, certificate=True)
    quick = changed(settings, "mongodb", server_selection_timeout_ms=800)
    uri, shown = quick.mongodb.uri.get_secret_value(), quote(str(place.servers.certificates["watcher"].both), "")
    ended = place.servers.authority.issue(user_of("watcher"), file="mongodb-ended", not_after=ENDED)
    assert await said(look_into(quick, place)) == "nothing"
    for certificate in (other.issue(user_of("watcher")), ended):
        wrong = changed(quick, "mongodb", uri=uri.replace(shown, quote(str(certificate.both), "")))
        assert "no usable member answered" in await said(look_into(wrong, place))
    without = changed(quick, "mongodb", uri=uri.replace(f"&tlsCertificateKeyFile={shown}", ""))
    assert await said(look_into(without, place)) != "nothing"


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
    await certificates_of_others_are_told(place, other)
    database, role = place.catalog.database, mongodb_privileges.name_of("api")
    privileges = mongodb_privileges.creation("api", database, list(place.catalog.collections))["privileges"]
    async with AsyncMongoClient[dict[str, Any]](place.servers.mongo_admin) as admin:
        await admin[database].command({"revokePrivilegesFromRole": role, "privileges": privileges})
        reason = await said(look_into(quick, place))
        await admin[database].command({"grantPrivilegesToRole": role, "privileges": privileges})
    assert reason == "the user may not do this, or no user is given"
    assert await said(look_into(quick, place)) == "nothing"


# --- each right by itself: the short form of experiment 31

SHORT: Final[tuple[tuple[Role, Server, str, str], ...]] = (
    ("watcher", "mongodb", "", "changeStream"),
    ("watcher", "mongodb", CONTROL, "update"),
    ("watcher", "kafka", "topic", "DescribeConfigs"),
    ("watcher", "kafka", "topic", "Write"),
    ("watcher", "redis", "command", "+set"),
    ("consumer", "mongodb", CONTROL, "find"),
    ("consumer", "kafka", "topic", "Read"),
    ("consumer", "kafka", "group", "Read"),
    ("consumer", "redis", "command", "+evalsha"),
    ("consumer", "redis", "channel", ""),
    ("api", "mongodb", RESOURCE, "find"),
    ("api", "redis", "command", "+subscribe"),
)
"""Role, server, what the place begins with, and which: those that a role needs all the time."""


def chosen(place: Place) -> Iterator[Right]:
    topics = (f"topic {place.base.kafka.topic}.", f"topic {place.base.kafka.dead_topic_name}")
    for role, server, on, what in SHORT:
        [right] = [
            each
            for each in rights(place)
            if (each.role, each.server) == (role, server)
            and (each.on == on if server == "mongodb" else each.on.startswith(on))
            and what in (each.what, "")
            and not each.on.startswith(topics)
        ]
        yield right


@pytest.mark.timeout(180)
async def test_a_role_without_a_right_says_which_and_how_to_give_it_and_hangs_nowhere(place: Place) -> None:
    async with Lacking.of(place, briefly=True) as world:
        for right in chosen(place):
            finding = await world.without(right)
            assert finding.said and finding.remedied and not (finding.hung or finding.unwell), str(finding)


def test_every_right_of_the_docs_is_one_that_is_taken_away(place: Place) -> None:
    table = list(rights(place))
    assert len(set(table)) == len(table)
    text = "\n".join(str(right) for right in table)
    for role in ROLES:
        for collection, actions in mongodb_privileges.of_role(role, place.catalog.collections).items():
            assert all(f"{role}: {one} on {collection or 'the database'} of mongodb" in text for one in actions)
        assert all(f"{role}: +{one} on command of redis" in text for one in redis_privileges.commands_of(role))


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
    authority.issue(name, file=f"renewed-{section}", not_after=ENDED)
    assert await said(ask(ours)) != "nothing"
    authority.issue(name, file=f"renewed-{section}")
    assert await said(ask(ours)) == "nothing"


async def test_mongodb_is_shown_the_certificate_that_is_there_now_by_the_client_that_runs(place: Place) -> None:
    """Its driver reads the files only when a client is made; we have them read again."""
    authority, ours = place.servers.authority, place.servers.settings("api", place.base)
    name = user_of("api")
    ended = authority.issue(name, file="renewed-mongodb", not_after=ENDED)
    # Its user shows a password besides: a subject of this authority is another one each time.
    uri = f"{ours.mongodb.uri.get_secret_value()}&tlsCertificateKeyFile={quote(str(ended.both), '')}"
    mongodb = changed(ours, "mongodb", uri=uri, server_selection_timeout_ms=1000).mongodb
    async with mongo_client(mongodb) as client:
        collection = client[place.catalog.database][RESOURCE]
        with pytest.raises(ServerSelectionTimeoutError):
            await collection.find_one()
        ended.both.write_bytes(ended.key.read_bytes())  # half a renewal
        with pytest.raises(ServerSelectionTimeoutError):
            await collection.find_one()
        authority.issue(name, file="renewed-mongodb")

        async def answers() -> bool:
            with suppress(ServerSelectionTimeoutError):
                await collection.find_one()
                return True
            return False

        await eventually(answers, "the renewed certificate is shown", 20)


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
