"""Whether this MongoDB can be watched and read: version, replica set, collections, snapshot reads, privileges."""

from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from neverstale import keys
from neverstale.catalog import Catalog, Resource
from neverstale.errors import Outage
from neverstale.misconfiguration import did_you_mean
from neverstale.mongodb import apply_ops
from neverstale.mongodb.control import CONTROL, HEARTBEATS
from neverstale.mongodb.kinds import Kind, kind_of
from neverstale.mongodb.refusals import row_of
from neverstale.mongodb.replies import REPLY, Reply
from neverstale.settings import MongoDB
from neverstale.settings_sources import variable
from ops.check.findings import Finding, Level
from ops.servers import AUTHENTICATION_FAILED, UNAUTHORIZED, MongoFacts, mongo_facts, mongodb

LEAST_VERSION = (5, 0)
"""Snapshot reads outside of transactions (`atClusterTime`) came with it."""
WALL_TIME_VERSION = (6, 0)
"""Change events carry `wallTime` since then, and reads may name the collection's UUID."""

Document: TypeAlias = dict[str, Any]


async def check_mongodb(settings: MongoDB, catalog: Catalog) -> list[Finding]:
    try:
        async with mongodb(settings) as client:
            facts = await mongo_facts(client)
            findings = list(judge(facts))
            if all(finding.level != "problem" for finding in findings):
                findings += [finding async for finding in _contents(client[catalog.database], catalog)]
            return findings
    except Outage as outage:
        return [await _unreachable(settings, outage.reason)]


def judge(facts: MongoFacts) -> Iterable[Finding]:
    version = tuple(int(part) for part in facts.version.split(".")[:2])
    if version < LEAST_VERSION:
        yield _problem(f"the server is {facts.version}", "run MongoDB 5.0 or later")
    elif version < WALL_TIME_VERSION:
        yield _finding(
            "warning",
            f"the server is {facts.version}; its change events carry no wall time, so bounds are wider",
            "run MongoDB 6.0 or later",
        )
    if facts.set_name is None and not facts.is_mongos:
        yield _NO_REPLICA_SET
        return
    place = "a sharded cluster" if facts.is_mongos else f"replica set {facts.set_name}"
    yield _ok(f"MongoDB {facts.version}, {place}")
    if not apply_ops.is_told(version):
        yield _finding("ok", apply_ops.UNTOLD, apply_ops.REMEDY)


async def _contents(database: AsyncDatabase[Document], catalog: Catalog) -> AsyncIterator[Finding]:
    kinds = await _kinds(database)
    for resource in catalog.resources.values():
        yield await _collection(database, resource, kinds)
    for may in (_may_watch, _may_write):
        yield await may(database)


async def _may_watch(database: AsyncDatabase[Document]) -> Finding:
    try:
        await _open_stream(database)
    except OperationFailure as error:
        grant = f'grant find and changeStream on {{db: "{database.name}", collection: ""}} to the watcher'
        return _refused(error, f"the user may not open a change stream on {database.name}", grant)
    return _ok(f"change streams can be opened on {database.name}")


async def _may_write(database: AsyncDatabase[Document]) -> Finding:
    for name in (CONTROL, HEARTBEATS):
        try:
            nothing = {"q": {"_id": {"$in": []}}, "u": {"$set": {"at": None}}}
            await database.command({"update": name, "updates": [nothing]})
        except OperationFailure as error:
            grant = f'grant readWrite on {{db: "{database.name}", collection: "{name}"}} to the watcher'
            return _refused(error, f"the user may not write to {database.name}.{name}", grant)
    return _ok(f"{database.name}.{CONTROL} and {HEARTBEATS} can be written")


async def _kinds(database: AsyncDatabase[Document]) -> dict[str, Kind]:
    """Of all visible collections, by name."""
    options: tuple[Document, ...] = {}, {"nameOnly": True, "authorizedCollections": True}
    for option in options:
        try:
            found = await database.list_collections(**option)
            return {each["name"]: kind_of(each) async for each in found}
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
    return {}  # No privilege on any; reading each of them says so.


async def _collection(database: AsyncDatabase[Document], resource: Resource, kinds: dict[str, Kind]) -> Finding:
    path = f"resources.{resource.name}.collection"
    namespace = f"{database.name}.{resource.collection}"
    kind = kinds.get(resource.collection)
    if kind is not None and (why := kind.why(namespace)) is not None:
        sentence, _, remedy = why.partition("; ")
        return _problem(sentence, f"{remedy}: {path}")
    try:
        first = await _snapshot_read(database, resource.collection)
    except OperationFailure as error:
        grant = f'grant find on {{db: "{database.name}", collection: "{resource.collection}"}}'
        return _refused(error, f"the user may not read {namespace}", grant)
    if kind is None:
        remedy = did_you_mean(resource.collection, [name for name in kinds if not name.startswith("system.")])
        hint = remedy if remedy.startswith("did you mean") else "create it"
        return _problem(f"there is no collection {namespace}", f"{hint}, or correct {path} in the catalog")
    if first is not None and not keys.type_matches(keys.canonical(first["_id"]), resource.key_type):
        return _finding(
            "warning",
            f"{namespace} holds an _id that is a {type(first['_id']).__name__}; such documents are not served",
            f"resources.{resource.name}.key_type says {resource.key_type}; correct it if most are like this one",
        )
    return _ok(f"{namespace} is there and answers snapshot reads")


async def _snapshot_read(database: AsyncDatabase[Document], collection: str) -> Document | None:
    """The first document's `_id`, read as the API reads."""
    reply = await database.command(
        {"find": collection, "limit": 1, "projection": {"_id": 1}, "readConcern": {"level": "snapshot"}},
        codec_options=REPLY,
    )
    return next(iter(Reply.of(reply).documents()), None)


async def _open_stream(database: AsyncDatabase[Document]) -> None:
    async with database.client.start_session() as session:
        reply = await database.command(
            {"aggregate": 1, "pipeline": [{"$changeStream": {}}], "cursor": {"batchSize": 0}}, session=session
        )
        await database.command({"killCursors": "$cmd.aggregate", "cursors": [reply["cursor"]["id"]]}, session=session)


async def _unreachable(settings: MongoDB, reason: str) -> Finding:
    """Why no member is usable, as far as one of them tells without a replica set's rules."""
    uri = settings.uri.get_secret_value()
    if uri.startswith("mongodb://"):
        parsed = parse_uri(uri)
        for host, port in parsed["nodelist"]:
            hello = await _hello(str(host), int(port or 27017), parsed["options"].get("tls", False), settings)
            if hello:
                return explain(hello, parsed["options"].get("replicaSet"), reason)
    return _problem(f"does not answer: {reason}", f"start it, or correct {variable('mongodb.uri')}")


async def _hello(host: str, port: int, tls: bool, settings: MongoDB) -> Document | None:
    patience = settings.server_selection_timeout_ms
    options: Document = {"tls": True, "tlsAllowInvalidCertificates": True} if tls else {}
    client: AsyncMongoClient[Document] = AsyncMongoClient(
        host, port, directConnection=True, serverSelectionTimeoutMS=patience, connectTimeoutMS=patience, **options
    )
    async with client:
        try:
            return await client.admin.command("hello")
        except PyMongoError:
            return None


def explain(hello: Document, wanted: str | None, reason: str) -> Finding:
    """Why a set of which one member says `hello` cannot be used; `wanted` is the name in the connection string."""
    name = hello.get("setName")
    if hello.get("isreplicaset") and name is None:
        return _problem("the replica set was never initiated", "run rs.initiate() in mongosh")
    if name is None and hello.get("msg") != "isdbgrid":
        return _NO_REPLICA_SET
    if wanted and name != wanted:
        return _problem(
            f"the replica set is {name}, but the connection string says {wanted}",
            f"correct replicaSet in {variable('mongodb.uri')}",
        )
    if not hello.get("primary"):
        return _problem(f"replica set {name} has no primary at the moment", "see rs.status() on a member")
    if "user" in reason:
        return _problem(reason, f"correct them in {variable('mongodb.uri')}, or grant the role")
    members = ", ".join(hello.get("hosts", ()))
    return _problem(
        f"a member answers, but the set's members cannot be used from here ({reason})",
        f"their names must resolve here: {members}",
    )


def _refused(error: OperationFailure, sentence: str, grant: str) -> Finding:
    if error.code in (UNAUTHORIZED, AUTHENTICATION_FAILED):
        return _problem(sentence, grant)
    row = row_of(error.code, "keys")
    name = row.name if row is not None else (error.details or {}).get("codeName")
    return _problem(f"error {error.code}, {name}", (row.remedy if row is not None else "") or "see the server's log")


def _finding(level: Level, message: str, remedy: str = "") -> Finding:
    return Finding("mongodb", level, message, remedy)


def _ok(message: str) -> Finding:
    return _finding("ok", message)


def _problem(message: str, remedy: str) -> Finding:
    return _finding("problem", message, remedy)


_NO_REPLICA_SET = _problem(
    "the server is no replica set, so it has no change streams",
    "start mongod with --replSet rs0 and run rs.initiate() once; one member is enough",
)
