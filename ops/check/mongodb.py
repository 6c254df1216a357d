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
from neverstale.ops.check.findings import Finding, about, has_problem
from neverstale.ops.check.paste import export, mongosh
from neverstale.ops.servers import AUTHENTICATION_FAILED, UNAUTHORIZED, MongoFacts, mongo_facts, mongodb
from neverstale.settings import MongoDB

LEAST_VERSION = (5, 0)
"""Snapshot reads outside of transactions (`atClusterTime`) came with it."""
WALL_TIME_VERSION = (6, 0)
"""Change events carry `wallTime` since then, and reads may name the collection's UUID."""

Document: TypeAlias = dict[str, Any]

_version, _set = about("versions", "mongodb"), about("replica-set", "mongodb")
_reachable, _privileges = about("reachable", "mongodb"), about("privileges", "mongodb")
_collections = about("collections", "mongodb")


async def check_mongodb(settings: MongoDB, catalog: Catalog) -> list[Finding]:
    try:
        async with mongodb(settings) as client:
            facts = await mongo_facts(client)
            findings = list(judge(facts))
            if not has_problem(findings):
                findings += [finding async for finding in _contents(client[catalog.database], catalog, settings)]
            return findings
    except Outage as outage:
        return [await _unreachable(settings, outage.reason)]


def judge(facts: MongoFacts) -> Iterable[Finding]:
    version = tuple(int(part) for part in facts.version.split(".")[:2])
    if version < LEAST_VERSION:
        yield _version("problem", "too-old", f"the server is {facts.version}", "run MongoDB 5.0 or later")
    elif version < WALL_TIME_VERSION:
        message = f"the server is {facts.version}; its change events carry no wall time, so bounds are wider"
        yield _version("warning", "no-wall-times", message, "run MongoDB 6.0 or later")
    if facts.set_name is None and not facts.is_mongos:
        yield _NO_REPLICA_SET
        return
    if facts.is_mongos:
        message = f"MongoDB {facts.version} behind a mongos: nobody has proved that no stale value stays there"
        remedy = "read docs/works-with.md#sharded-mongodb, and try it before you rely on it"
        yield _set("warning", "sharded", message, remedy)
    else:
        yield _set.well(f"MongoDB {facts.version}, replica set {facts.set_name}")
    if not apply_ops.is_told(version):
        yield _version.well(apply_ops.UNTOLD, apply_ops.REMEDY)


async def _contents(database: AsyncDatabase[Document], catalog: Catalog, settings: MongoDB) -> AsyncIterator[Finding]:
    kinds = await _kinds(database)
    for resource in catalog.resources.values():
        yield await _collection(database, resource, kinds, settings)
    for may in (_may_watch, _may_write):
        yield await may(database)


async def _may_watch(database: AsyncDatabase[Document]) -> Finding:
    try:
        await _open_stream(database)
    except OperationFailure as error:
        grant = f'grant find and changeStream on {{db: "{database.name}", collection: ""}} to the watcher'
        return _refused(error, f"the user may not open a change stream on {database.name}", grant)
    return _privileges.well(f"change streams can be opened on {database.name}")


async def _may_write(database: AsyncDatabase[Document]) -> Finding:
    for name in (CONTROL, HEARTBEATS):
        try:
            nothing = {"q": {"_id": {"$in": []}}, "u": {"$set": {"at": None}}}
            await database.command({"update": name, "updates": [nothing]})
        except OperationFailure as error:
            grant = f'grant readWrite on {{db: "{database.name}", collection: "{name}"}} to the watcher'
            return _refused(error, f"the user may not write to {database.name}.{name}", grant)
    return _privileges.well(f"{database.name}.{CONTROL} and {HEARTBEATS} can be written")


async def _kinds(database: AsyncDatabase[Document]) -> dict[str, Kind]:
    """The kinds of all visible collections, by name."""
    options: tuple[Document, ...] = {}, {"nameOnly": True, "authorizedCollections": True}
    for option in options:
        try:
            found = await database.list_collections(**option)
            return {each["name"]: kind_of(each) async for each in found}
        except OperationFailure as error:
            if error.code != UNAUTHORIZED:
                raise
    return {}  # No privilege on any; reading each of them says so.


async def _collection(
    database: AsyncDatabase[Document], resource: Resource, kinds: dict[str, Kind], settings: MongoDB
) -> Finding:
    path = f"resources.{resource.name}.collection"
    namespace = f"{database.name}.{resource.collection}"
    kind = kinds.get(resource.collection)
    if kind is not None and (why := kind.why(namespace)) is not None:
        sentence, _, remedy = why.partition("; ")
        return _collections("problem", "nothing-tells", sentence, f"{remedy}: {path}")
    try:
        ends = [found for order in (1, -1) async for found in _end(database, resource.collection, order)]
    except OperationFailure as error:
        grant = f'grant find on {{db: "{database.name}", collection: "{resource.collection}"}}'
        return _refused(error, f"the user may not read {namespace}", grant)
    if kind is None:
        remedy = did_you_mean(resource.collection, [name for name in kinds if not name.startswith("system.")])
        create = f"db.getSiblingDB({database.name!r}).createCollection({resource.collection!r})"
        hint = remedy if remedy.startswith("did you mean") else mongosh(settings, create)
        return _collections(
            "problem",
            "no-collection",
            f"there is no collection {namespace}",
            f"{hint}, or correct {path} in the catalog",
        )
    other = [end for end in ends if not keys.type_matches(keys.canonical(end), resource.key_type)]
    if other:
        return _of_another_type(resource, namespace, other, mixed=len(other) < len(ends), settings=settings)
    return _collections.well(f"{namespace} is there and answers snapshot reads")


def _of_another_type(
    resource: Resource, namespace: str, other: list[Any], *, mixed: bool, settings: MongoDB
) -> Finding:
    name = type(other[0]).__name__
    declared = f"resources.{resource.name}.key_type says {resource.key_type}"
    if not mixed:
        message = f"{namespace} holds an _id that is a {name}; such documents are not served"
        remedy = f"{declared}; correct it if most are like this one"
        return _collections("warning", "other-keys", message, remedy)
    message = f"{namespace} mixes types of _id: some are a {name}, and are not served, though {declared}"
    groups = f"db.getSiblingDB({namespace.partition('.')[0]!r}).getCollection({resource.collection!r})"
    count = "aggregate([{ $group: { _id: { $type: '$_id' }, documents: { $sum: 1 } } }])"
    return _collections("warning", "mixed-keys", message, mongosh(settings, f"{groups}.{count}"))


async def _end(database: AsyncDatabase[Document], collection: str, order: int) -> AsyncIterator[Any]:
    """The first `_id` in an order, read as the API reads. Types follow each other in the index, so that of the first
    and of the last tell whether there is more than one."""
    reply = await database.command(
        {
            "find": collection,
            "limit": 1,
            "sort": {"_id": order},
            "projection": {"_id": 1},
            "readConcern": {"level": "snapshot"},
        },
        codec_options=REPLY,
    )
    for document in Reply.of(reply).documents():
        yield document["_id"]


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
    return _reachable("problem", "no-answer", f"does not answer: {reason}", f"start it, or correct: {_ELSEWHERE}")


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
        return _set(
            "problem", "never-initiated", "the replica set was never initiated", "run rs.initiate() in mongosh"
        )
    if name is None and hello.get("msg") != "isdbgrid":
        return _NO_REPLICA_SET
    if wanted and name != wanted:
        message = f"the replica set is {name}, but the connection string says {wanted}"
        remedy = export("mongodb.uri", f"mongodb://HOST:27017/?replicaSet={name}")
        return _reachable("problem", "another-set", message, remedy)
    if not hello.get("primary"):
        message = f"replica set {name} has no primary at the moment"
        return _set("problem", "no-primary", message, "see rs.status() on a member")
    if "user" in reason:
        return _reachable("problem", "login-refused", reason, f"correct them, or grant the role: {_ELSEWHERE}")
    members = ", ".join(hello.get("hosts", ()))
    message = f"a member answers, but the set's members cannot be used from here ({reason})"
    return _reachable("problem", "members-unreachable", message, f"their names must resolve here: {members}")


def _refused(error: OperationFailure, sentence: str, grant: str) -> Finding:
    if error.code in (UNAUTHORIZED, AUTHENTICATION_FAILED):
        return _privileges("problem", "rights-too-narrow", sentence, grant)
    row = row_of(error.code, "keys")
    name = row.name if row is not None else (error.details or {}).get("codeName")
    remedy = (row.remedy if row is not None else "") or "see the server's log"
    return _reachable("problem", "reads-refused", f"error {error.code}, {name}", remedy)


_ELSEWHERE = export("mongodb.uri", "mongodb://USER:PASSWORD@HOST:27017/?replicaSet=rs0")
_NO_REPLICA_SET = _set(
    "problem",
    "no-replica-set",
    "the server is no replica set, so it has no change streams",
    "start mongod with --replSet rs0 and run rs.initiate() once; one member is enough",
)
