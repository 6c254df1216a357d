"""The end of a test's database, whatever was cut off half way in it."""

from contextlib import suppress
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure


def drop_database(uri: str, name: str) -> None:
    """Drop a database at once.

    Whoever is cancelled or killed within a transaction may leave it open. The server ends it after a minute or more;
    until then nobody could drop what it has read.
    """
    left: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True, "idleSessions": True}},
        {"$match": {"type": "idleSession", "transaction": {"$exists": True}}},
    ]
    with MongoClient[dict[str, Any]](uri) as client:
        with suppress(OperationFailure):  # on a server that was given we may not; then it takes its time
            for session in client.admin.aggregate(left):
                client.admin.command({"killSessions": [{"id": session["lsid"]["id"]}]})
        client.drop_database(name)
