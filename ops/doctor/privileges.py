"""Whether users may do more than any role of ours needs. What they may not do, `neverstale.ops.check` says."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import mongosh
from neverstale.ops.privileges.mongodb import of_watcher
from neverstale.settings import MongoDB

WIDE: Final = frozenset(
    (
        "root",
        "__system",
        "dbOwner",
        "dbAdmin",
        "dbAdminAnyDatabase",
        "userAdmin",
        "userAdminAnyDatabase",
        "readWriteAnyDatabase",
        "clusterAdmin",
        "clusterManager",
        "hostManager",
        "backup",
        "restore",
        "readAnyDatabase",
    )
)
"""Built-in roles that reach beyond the watched database, or may give themselves more."""

_say = about("privileges", "mongodb")


async def look_at_privileges(
    client: AsyncMongoClient[dict[str, Any]], settings: MongoDB, catalog: Catalog
) -> list[Finding]:
    reply = await client.admin.command("connectionStatus")
    return list(judge(reply["authInfo"], settings, catalog.database))


def judge(info: Mapping[str, Any], settings: MongoDB, database: str) -> Iterable[Finding]:
    """What `connectionStatus` says of us; that nobody is asked who he is, `exposure` says."""
    roles = info["authenticatedUserRoles"]
    wide = sorted({one["role"] for one in roles if one["role"] in WIDE})
    writes = [one["db"] for one in roles if one["role"] == "readWrite" and one["db"] not in (database, "local")]
    for user in info["authenticatedUsers"][:1]:
        if wide:
            message = f"user {user['user']} has {', '.join(wide)}, more than any role of ours needs"
            remedy = _narrower(settings, database, user["user"], user["db"])
            yield _say("warning", "rights-too-wide", message, remedy)
        elif writes:
            message = f"user {user['user']} may write to {', '.join(writes)}, too"
            yield _say("warning", "writes-elsewhere", message, _only_here(settings))
        else:
            yield _say.well(f"user {user['user']} has no role that reaches too far")


def _narrower(settings: MongoDB, database: str, user: str, where: str) -> str:
    """What a watcher needs, which is the most that any role does."""
    needed = [_privilege(database, name, *actions) for name, actions in of_watcher().items()]
    role = f"{{ role: 'neverstale', privileges: [{', '.join(needed)}], roles: [] }}"
    granted = f"[{{ role: 'neverstale', db: '{database}' }}]"
    script = (
        f"db.getSiblingDB('{database}').createRole({role}); "
        f"db.getSiblingDB('{where}').updateUser('{user}', {{ roles: {granted} }})"
    )
    return mongosh(settings, script)


def _privilege(database: str, collection: str, *actions: str) -> str:
    return f"{{ resource: {{ db: '{database}', collection: '{collection}' }}, actions: {list(actions)} }}"


def _only_here(settings: MongoDB) -> str:
    return mongosh(
        settings, "db.getSiblingDB('admin').revokeRolesFromUser('USER', [{ role: 'readWrite', db: 'DB' }])"
    )
