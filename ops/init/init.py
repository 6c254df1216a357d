"""`neverstale init`: look at a MongoDB, write a first catalog and settings file, say what comes next."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.mongodb.refusals import ours
from neverstale.ops.init import draft
from neverstale.ops.init.survey import CollectionSurvey, Document, survey
from neverstale.servers import mongo_client
from neverstale.settings import MongoDB

_NOT_THEIRS = ("admin", "config", "local")


@dataclass(frozen=True, slots=True)
class Initialised:
    """What was written."""

    database: str
    catalog: Path
    settings: Path
    surveyed: Sequence[CollectionSurvey]

    @property
    def served(self) -> list[CollectionSurvey]:
        return [one for one in self.surveyed if draft.reason_against(one) is None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator said."""

    database: str = ""
    """Empty: the URI's, or the only one there is."""
    collections: tuple[str, ...] = ()
    """Empty: all."""
    folder: Path = Path()
    force: bool = False
    """Replace files that are there."""


def ask_which(databases: Sequence[str]) -> str:
    """Ask on the terminal. Raises `Misconfigured` where there is none."""
    if not sys.stdin.isatty():
        raise Misconfigured("--database", f"there are several: {', '.join(databases)}", "name one of them")
    print("Which database?", ", ".join(databases))
    return input("> ").strip()


async def init(mongodb: MongoDB, wishes: Wishes, ask: Callable[[Sequence[str]], str] = ask_which) -> Initialised:
    """Look, and write `catalog.toml` and `neverstale.toml`. Nothing is written if anything is wrong.

    Raises:
        Misconfigured: a file is there already, or there is nothing to serve.
        Outage, Refused: what MongoDB answers.
    """
    targets = wishes.folder / "catalog.toml", wishes.folder / "neverstale.toml"
    for target in targets:
        if target.exists() and not wishes.force:
            raise Misconfigured(str(target), "is there already", "use --force to replace it, or --out FOLDER")
    if not wishes.folder.is_dir():
        raise Misconfigured("--out", f"{wishes.folder} is not a folder", "make it, or name another one")
    try:
        async with mongo_client(mongodb) as client:
            database = wishes.database or await _database(client, mongodb, ask)
            surveyed = _wanted(await survey(client[database]), wishes.collections, database)
    except PyMongoError as error:
        raise ours(error, "kinds") from error
    made = Initialised(database, *targets, surveyed)
    if not made.served:
        reasons = "; ".join(str(draft.reason_against(one)) for one in surveyed) or "it has no collections"
        raise Misconfigured("--database", f"nothing of {database} can be served: {reasons}", "name another one")
    _write(made, draft.catalog(database, surveyed), draft.settings("catalog.toml"))
    return made


async def _database(client: AsyncMongoClient[Document], mongodb: MongoDB, ask: Callable[[Sequence[str]], str]) -> str:
    named = parse_uri(mongodb.uri.get_secret_value(), validate=False).get("database")
    if named and named not in _NOT_THEIRS:
        return str(named)
    found = [name for name in await client.list_database_names() if name not in _NOT_THEIRS]
    if not found:
        raise Misconfigured("mongodb.uri", "this MongoDB holds no database of yours", "name another one")
    answer = found[0] if len(found) == 1 else ask(found)
    if answer not in found:
        raise Misconfigured("--database", f"there is no {answer!r}", f"name one of: {', '.join(found)}")
    return answer


def _wanted(surveyed: list[CollectionSurvey], names: Sequence[str], database: str) -> list[CollectionSurvey]:
    known = {one.name for one in surveyed}
    for name in names:
        if name not in known:
            remedy = f"name one of: {', '.join(sorted(known)) or 'none'}"
            raise Misconfigured("--collections", f"there is no {database}.{name}", remedy)
    return [one for one in surveyed if not names or one.name in names]


def _write(made: Initialised, catalog: str, settings: str) -> None:
    partial = made.catalog.with_suffix(".partial")
    partial.write_text(catalog, encoding="utf-8")
    try:
        Catalog.load(partial)  # whatever the collections are called, what is written can be read
    except Misconfigured:
        partial.unlink()
        raise
    partial.rename(made.catalog)
    made.settings.write_text(settings, encoding="utf-8")


def print_initialised(made: Initialised) -> None:
    """For people: what was written, what is left out and why, and the next steps."""
    names = draft.resource_names(one.name for one in made.served)
    for one in made.surveyed:
        reason = draft.reason_against(one)
        told = (
            f"left out: {reason}" if reason else f"/v1/{names[one.name]}/{{key}}, about {one.documents:,} documents"
        )
        print(f"  {one.name:<24} {told}")
    print(
        f"\nWritten: {made.catalog} and {made.settings}. Look through them; then create users in MongoDB (mongosh):\n"
    )
    print(draft.roles(made.database, [one.name for one in made.served]))
    here = "" if made.settings.parent == Path() else f"cd {made.settings.parent}; "
    print(f"""
Next:
  {here}export NEVERSTALE_MONGODB__URI='mongodb://…'
  neverstale check           # what is wrong, each with its remedy; --create-indexes makes what lists need
  neverstale run watcher     # one each, as services
  neverstale run consumer
  neverstale run api""")
