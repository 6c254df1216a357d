"""Options and arguments that most commands share, and what the files that they name hold."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from neverstale.catalog import Catalog
    from neverstale.settings import Settings
    from neverstale.settings.sources import Origins

DEFAULT_CONFIG: Final = Path("neverstale.toml")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="NEVERSTALE_CONFIG", help="Settings file.", show_default="neverstale.toml, if there"
    ),
]
CatalogFile = Annotated[Path | None, typer.Option("--catalog", help="Catalog file.", show_default="catalog.toml")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
ResourceName = Annotated[str, typer.Argument(metavar="RESOURCE", help="As the catalog names it.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Ask for it, and leave.")]


def settings_from(
    config: Path | None, catalog: Path | None, options: "Mapping[str, object] | None" = None
) -> "tuple[Settings, Origins]":
    """`options`: settings that other options of the command line say."""
    from neverstale.settings.sources import load

    given = {"catalog": catalog} if catalog else {}
    return load(os.environ, config_file(config), {**given, **(options or {})})


def config_file(config: Path | None) -> Path | None:
    return DEFAULT_CONFIG if config is None and DEFAULT_CONFIG.exists() else config


def catalog_of(settings: "Settings") -> "Catalog":
    from neverstale.catalog import Catalog

    return Catalog.load(settings.catalog)
