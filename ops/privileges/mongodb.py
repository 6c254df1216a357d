"""Roles and users of MongoDB."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from neverstale.mongodb.control import CONTROL, HEARTBEATS
from neverstale.ops.privileges.roles import ROLES, Role, user_of

Privileges: TypeAlias = Mapping[str, tuple[str, ...]]
"""Collection -> actions; the empty name: the whole database."""


def of_api(collections: Iterable[str]) -> Privileges:
    return {**dict.fromkeys([*collections, CONTROL], ("find",)), "": ("listCollections",)}


def of_consumer(collections: Iterable[str]) -> Privileges:
    return {**of_api(collections), CONTROL: ("find", "insert", "update")}


def of_watcher() -> Privileges:
    """The most that any role needs. `find` on the database is one on its own collections, too."""
    own = ("insert", "update")
    return {"": ("find", "changeStream", "listCollections"), CONTROL: own, HEARTBEATS: own}


def of_role(role: Role, collections: Iterable[str]) -> Privileges:
    if role == "api":
        return of_api(collections)
    return of_consumer(collections) if role == "consumer" else of_watcher()


def name_of(role: Role) -> str:
    """How the role is called in MongoDB."""
    return f"neverstale{role.capitalize()}"


def creation(role: Role, database: str, collections: Iterable[str]) -> dict[str, Any]:
    """The command that creates the role in the database."""
    privileges = [
        {"resource": {"db": database, "collection": collection}, "actions": list(actions)}
        for collection, actions in of_role(role, collections).items()
    ]
    return {"createRole": name_of(role), "privileges": privileges, "roles": []}


def user(role: Role, database: str, password: str) -> dict[str, Any]:
    """The command that creates the role's user in the database `admin`, with a password."""
    return {"createUser": user_of(role), "pwd": password, "roles": _granted(role, database)}


def certified(role: Role, database: str, subject: str) -> dict[str, Any]:
    """The command that creates its user in the database `$external`, known by the subject of its certificate."""
    return {"createUser": subject, "roles": _granted(role, database)}


def _granted(role: Role, database: str) -> list[dict[str, str]]:
    """Its role; an operator also sees what `doctor` asks of the server as a whole: members, oplog, connections."""
    whole = [{"role": "clusterMonitor", "db": "admin"}] if role == "operator" else []
    return [{"role": name_of(role), "db": database}, *whole]


def roles_script(database: str, collections: Iterable[str], roles: Iterable[Role] = ROLES) -> str:
    """Lines for `mongosh` that create the roles."""
    served = list(collections)
    lines = [f"use {database}"]
    for role in roles:
        made = creation(role, database, served)
        lines.append(f"db.createRole({{ role: {_text(name_of(role))}, roles: [], privileges: [")
        lines += [f"  {_shown(privilege)}," for privilege in made["privileges"]]
        lines.append("] })")
    return "\n".join(lines)


def users_script(database: str, roles: Iterable[Role] = ROLES) -> str:
    """Lines for `mongosh` that create a user with a password for each."""
    lines = ["use admin"]
    for role in roles:
        made = user(role, database, "")
        name = _text(made["createUser"])
        lines.append(f"db.createUser({{ user: {name}, pwd: passwordPrompt(), roles: {_shown(made['roles'])} }})")
    return "\n".join(lines)


def certified_script(database: str, subject: str, roles: Iterable[Role] = ROLES) -> str:
    """Lines for `mongosh` that create a user for each certificate instead; `subject` holds `{user}`."""
    lines = ["use $external"]
    for role in roles:
        made = certified(role, database, subject.format(user=user_of(role)))
        lines.append(f"db.createUser({{ user: {_text(made['createUser'])}, roles: {_shown(made['roles'])} }})")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """As JavaScript spells it, with names that need no quotation marks."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name}: {_shown(held)}" for name, held in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return _text(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
