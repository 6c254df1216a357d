"""`neverstale keys`: add, list and revoke static keys of callers."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from neverstale.ops.cli.options import AsJson, Config, settings_from

keys = typer.Typer(help="Static keys of those who call the API.", no_args_is_help=True)

KeysFile = Annotated[Path | None, typer.Option("--file", help="The file of keys.", show_default="callers.keys_file")]


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    scope: Annotated[list[str], typer.Option("--scope", help="What it allows, e.g. read:flights; repeat it.")],
    days: Annotated[int | None, typer.Option("--days", min=1, help="It ends after so many days.")] = None,
    claim: Annotated[
        list[str] | None, typer.Option("--claim", metavar="NAME=VALUE", help="What it says of its caller; repeat it.")
    ] = None,
    file: KeysFile = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it. Nobody can print it again: the file has only its hash."""
    from neverstale.api.callers.scopes import wrong_with
    from neverstale.errors import Misconfigured
    from neverstale.ops.caller_keys import add
    from neverstale.ops.terminal.output import print_json

    for each in scope:
        if (problem := wrong_with(each)) is not None:
            raise Misconfigured("--scope", problem, "correct it")
    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    line, shown = add(_file(file, config), name, scope, _claims(claim or ()), expires)
    if as_json:
        print_json({"id": line.id, "key": shown})
    else:
        print(shown)
        print(f"neverstale: key {line.id} of {name}; keep it now, it is not shown again", file=sys.stderr)


@keys.command("list")
def keys_list(file: KeysFile = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the keys: whose they are, what they allow, when they end."""
    from neverstale.api.callers.key_file import KeyFile, now
    from neverstale.ops.terminal.output import console, plain, print_json, table

    held = KeyFile.read(_file(file, config))
    if as_json:
        print_json([key.model_dump(mode="json", exclude={"sha256"}) for key in held.keys])
        return
    shown = table("id", "name", "scopes", "claims", "created", "expires")
    for key in held.keys:
        claims = " ".join(f"{name}={value}" for name, value in key.claims.items())
        ends = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}Z"
        ended = " (has ended)" if key.ended(now()) else ""
        row = (key.id, key.name, " ".join(key.scopes), claims, f"{key.created:%Y-%m-%d}", ends + ended)
        shown.add_row(*map(plain, row))
    console().print(shown)


@keys.command("revoke")
def keys_revoke(
    named: Annotated[str, typer.Argument(metavar="ID", help="An id, or a name: all keys of that name.")],
    file: KeysFile = None,
    config: Config = None,
) -> None:
    """Take keys away. Each API refuses them as soon as it has read the file again, after a second by default."""
    from neverstale.ops.caller_keys import revoke

    gone = revoke(_file(file, config), named)
    if not gone:
        print(f"neverstale: there is no key {named}", file=sys.stderr)
        raise typer.Exit(1)
    for key in gone:
        print(f"revoked {key.id} of {key.name}")


def _file(file: Path | None, config: Path | None) -> Path:
    from neverstale.errors import Misconfigured

    path = file or settings_from(config, None)[0].callers.keys_file
    if path is None:
        raise Misconfigured("--file", "no file of keys is named", "name one, or set NEVERSTALE_CALLERS__KEYS_FILE")
    return path


def _claims(given: "list[str] | tuple[()]") -> dict[str, str]:
    from neverstale.errors import Misconfigured

    claims = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise Misconfigured("--claim", f"{each!r} is not NAME=VALUE", "e.g. --claim tenant=acme")
        claims[name] = value
    return claims
