"""The command that begins: `init` writes a first catalog and settings file."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer


def init(
    mongodb: Annotated[
        str, typer.Option("--mongodb", envvar="NEVERSTALE_MONGODB__URI", prompt="MongoDB's URI", help="Its URI.")
    ],
    database: Annotated[
        str, typer.Option("--database", help="The one to serve.", show_default="the URI's, or the only one")
    ] = "",
    collections: Annotated[str, typer.Option("--collections", help="Names between commas.", show_default="all")] = "",
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Look at a MongoDB and write a first catalog and settings file for it. Changes nothing there."""
    from neverstale.ops.init.init import Wishes, print_initialised
    from neverstale.ops.init.init import init as begin
    from neverstale.settings.sources import load

    settings, _ = load(os.environ, None, {"mongodb.uri": mongodb})
    wishes = Wishes(
        database=database,
        collections=tuple(name for name in collections.split(",") if name),
        folder=out,
        force=force,
    )
    print_initialised(asyncio.run(begin(settings.mongodb, wishes)))
