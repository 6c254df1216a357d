"""Snapshots: what MongoDB says of the groups of a figure as of a version (`neverstale.derived.kinds.comparison`)."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS as RAW
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from neverstale.bson.texts import NULL, value_of
from neverstale.derived.groups import members
from neverstale.derived.kinds.comparison import MOST_GROUPS, AnyComparison
from neverstale.derived.queries import BYTES, equal
from neverstale.errors import Outage, Stop
from neverstale.mongodb.replies import decoded
from neverstale.versions import Version, to_timestamp

TOO_OLD: Final = 239
"""SnapshotTooOld: the state is no longer kept."""


class Snapshots:
    """The documents of a collection, as of any version."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], database: str, collection: str) -> None:
        self._database = client[database]
        self._collection = collection

    async def at(self, comparison: AnyComparison, version: Version, only: Collection[str] = ()) -> Mapping[str, Any]:
        """Every group that is not empty, at exactly this version. Given `only`, others may be missing or wrong."""
        command = comparison.command(self._collection, _documents_of(comparison.by, only))
        with _mongodb():
            return await comparison.in_mongodb(self._run(command, version))

    async def _run(self, command: dict[str, Any], version: Version) -> AsyncIterator[dict[str, Any]]:
        at = {"level": "snapshot", "atClusterTime": to_timestamp(version)}
        command = command | {"readConcern": at, "collation": BYTES}
        cursor: Any = await self._database.cursor_command(command, codec_options=RAW)
        async for document in cursor:
            yield decoded(document)


def _documents_of(by: Sequence[str], groups: Collection[str]) -> dict[str, Any]:
    """A filter for the documents of some groups, and perhaps others; for all, if that can be told no better."""
    texts = [members(group, len(by)) for group in groups]
    if not by or not 0 < len(texts) <= MOST_GROUPS or any(NULL in each for each in texts):
        return {}  # What is counted as null, a filter may not find: an empty array on the way to a path.
    return {"$or": [equal(by, list(map(value_of, each))) for each in texts]}


@contextmanager
def _mongodb() -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        if error.code == TOO_OLD:
            raise Stop(
                "MongoDB no longer has the state to compare with: reading takes longer than it keeps one "
                "(minSnapshotHistoryWindowInSeconds), or the consumers are that far behind"
            ) from None
        raise Outage("mongodb", f"error {error.code} while comparing") from error
    except PyMongoError as error:
        raise Outage("mongodb", f"{type(error).__name__} while comparing") from error
