"""Each certificate, password, token and right that is missing gives the error of docs/security.md, and nothing waits
without end. Given, it works without a restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import pytest
from pymongo import AsyncMongoClient

from neverstale.errors import KafkaRefuses, Outage
from neverstale.kafka.producer import started_producer
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names
from neverstale.ops import servers as asked
from neverstale.ops.privileges import kafka as kafka_privileges
from neverstale.ops.privileges import mongodb as mongodb_privileges
from neverstale.ops.privileges import redis as redis_privileges
from neverstale.ops.privileges.roles import Role, user_of
from neverstale.redis.cache import Cache
from neverstale.servers import redis_client
from neverstale.settings import Settings
from tests.support.authority import Authority
from tests.support.project import ROOT
from tests.support.waiting import eventually
from tests.worlds.secured import PASSWORD, Servers, bindings, confluent, token
from tests.worlds.secured_pipeline import RESOURCE, Place

DEADLINE_SECONDS: Final = 20.0
DOCUMENTED: Final = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def places() -> list[Place]:
    return []


@pytest.fixture
async def place(secured: Servers, places: list[Place]) -> Place:
    """One for all of these tests, each of which gives back what it has taken."""
    if not places:
        places.append(await Place.on(secured))
    return places[0]


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


async def test_kafka_says_that_it_does_not_believe_who_we_are(place: Place) -> None:
    folder, ours = place.servers.authority.folder, kafka(place)
    wrong = await said(ensure_topic(changed(ours, "kafka", sasl_password="wrong").kafka))
    assert wrong.startswith("SaslAuthenticationFailed") and documented("SaslAuthenticationFailed")
    by_token = {"sasl_mechanism": "OAUTHBEARER", "sasl_username": None, "sasl_password": None}
    held = folder / "token"
    held.write_text("no.token.")
    tokens = changed(ours, "kafka", **by_token, oauth_token_file=held)
    assert (await said(ensure_topic(tokens.kafka))).startswith("SaslAuthenticationFailed")
    held.write_text(token(user_of("watcher")))
    assert await said(write_to(tokens)) == "nothing"


@asynccontextmanager
async def taken_from_kafka(place: Place, role: Role, *operations: str) -> AsyncIterator[None]:
    admin = place.servers.kafka_admin
    acls = [each for acl in kafka_privileges.of_role(role, place.base.kafka) for each in bindings(role, acl)]
    taken = [each for each in acls if each.operation.name in operations]
    filters = [as_filter(each) for each in taken]
    for made in admin.delete_acls(filters).values():
        await asyncio.to_thread(made.result, 30)
    try:
        yield
    finally:
        for made in admin.create_acls(taken).values():
            await asyncio.to_thread(made.result, 30)


def as_filter(acl: Any) -> Any:
    return confluent.AclBindingFilter(
        acl.restype, acl.name, acl.resource_pattern_type, acl.principal, acl.host, acl.operation, acl.permission_type
    )


async def test_kafka_says_which_right_on_the_topic_is_missing_and_goes_on_once_it_is_given(place: Place) -> None:
    ours = kafka(place, "watcher", certificate=True)
    assert await said(write_to(ours)) == "nothing"
    async with taken_from_kafka(place, "watcher", "WRITE"):
        assert await said(write_to(ours)) == "TopicAuthorizationFailedError"
    async with taken_from_kafka(place, "watcher", "WRITE", "CREATE", "DESCRIBE_CONFIGS"):
        # Who may not even know of it is told that there is none, and may not make it.
        reason = await said(ensure_topic(ours.kafka))
        assert reason.startswith(("TopicAuthorizationFailedError", "ClusterAuthorizationFailedError"))
        assert documented("TopicAuthorizationFailedError")

    async def goes_on() -> bool:  # brokers learn of rights a moment later
        return await said(write_to(ours)) == "nothing"

    await eventually(goes_on, "the watcher writes again", DEADLINE_SECONDS)


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


async def test_every_command_of_the_api_that_is_taken_from_redis_is_refused_and_given_back(place: Place) -> None:
    ours, name = place.servers.settings("api", place.base), user_of("api")
    async with place.servers.redis_admin as admin:
        for command in ("mget", "evalsha", "script|load", "info", "set"):
            await admin.execute_command("ACL", "SETUSER", name, f"-{command}")
            reason = await said(read_from(ours))
            whole = redis_privileges.user("api", place.base.redis.prefix, PASSWORD)
            await admin.execute_command("ACL", "SETUSER", *whole)
            # Within a script Redis 7.0 has no code for it, and Redis 8 has.
            assert reason in ("NoPermissionError", *(("ERR", "NOPERM") if command == "set" else ())), command
        await admin.acl_log_reset()
    assert await said(read_from(ours)) == "nothing"


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
