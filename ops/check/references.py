"""Whether the fields that refer to other resources hold keys of these: told from a sample of documents."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import pymongo
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from neverstale import keys
from neverstale.bson.values import decode
from neverstale.catalog import Catalog, Resource
from neverstale.catalog.references import path_of
from neverstale.derived.groups import at_path
from neverstale.keys import KeyType
from neverstale.ops.check.findings import Finding, about
from neverstale.servers import mongo_client
from neverstale.settings import MongoDB

SAMPLE: Final = 200
"""Documents."""
SECONDS: Final = 10.0

_say: Final = about("references", "mongodb")


async def check_references(settings: MongoDB, catalog: Catalog) -> list[Finding]:
    """A finding for each declared reference."""
    async with mongo_client(settings) as client:
        database = client[catalog.database]
        try:
            return [
                finding
                for resource in catalog.resources.values()
                async for finding in _references(database, resource, catalog)
            ]
        except PyMongoError as error:
            message = f"{type(error).__name__} while references were looked at"
            return [_say("problem", "references-unread", message, "try again")]


async def _references(
    database: AsyncDatabase[dict[str, Any]], resource: Resource, catalog: Catalog
) -> AsyncIterator[Finding]:
    collection = database[resource.collection].with_options(DEFAULT_RAW_BSON_OPTIONS)
    for name, reference in resource.refs.items():
        path = ".".join(path_of(name, reference))
        with pymongo.timeout(SECONDS):
            found = await collection.find({path: {"$ne": None}}, {path: 1}, limit=SAMPLE).to_list()
        values = [value for one in found for value in at_path(decode(bytes(one.raw)), path)]
        yield judge(
            f"resources.{resource.name}.refs.{name}", reference.to, catalog.resources[reference.to].key_type, values
        )


def judge(path: str, target: str, key_type: KeyType, values: Iterable[Any]) -> Finding:
    """What the values of a field say about a reference to keys of this type. An array holds several."""
    named = [each for value in values for each in (value if isinstance(value, list) else [value]) if each is not None]
    others = Counter(type(each).__name__ for each in named if not keys.type_matches(keys.canonical(each), key_type))
    wrong = others.total()
    if not wrong:
        return _say.well(f"{path}: {len(named)} values that were looked at can be keys of {target}")
    shown = ", ".join(sorted(others))
    message = f"{path}: {wrong} of {len(named)} values are no {key_type} ({shown}); expand shows null for them"
    remedy = f"name the field that holds keys of {target}, or correct its key_type"
    return _say("problem" if wrong == len(named) else "warning", "reference-no-key", message, remedy)
