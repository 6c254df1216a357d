"""All commands, and the console script. Exit codes: 0 as asked, 1 a problem was found, 2 wrong use or a wrong
declaration.

Commands only wire: settings, catalog, call. They import what they call when they are called, so that `--help` is
quick.
"""

import gc
import sys
from typing import Annotated, Final

import typer

from neverstale import __version__
from neverstale.errors import Misconfigured, NeverstaleError
from neverstale.ops.cli.audit import audit
from neverstale.ops.cli.dead_letters import dlq
from neverstale.ops.cli.init import init
from neverstale.ops.cli.keys import keys
from neverstale.ops.cli.look import acl, check, diff, doctor, settings, status, support_bundle, why
from neverstale.ops.cli.repair import invalidate, rebuild, resync, warm
from neverstale.ops.cli.start import demo, play, run, up

COLLECT_AFTER: Final = 100_000

app = typer.Typer(
    name="neverstale",
    help="A MongoDB read cache that knows how fresh it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    init,
    up,
    demo,
    play,
    run,
    acl,
    check,
    diff,
    doctor,
    settings,
    status,
    audit,
    why,
    resync,
    invalidate,
    rebuild,
    warm,
):
    app.command()(command)
app.command("support-bundle")(support_bundle)
app.add_typer(dlq, name="dlq")
app.add_typer(keys, name="keys")


def main() -> None:
    """The console script."""
    gc.set_threshold(COLLECT_AFTER)  # importing makes many objects and no garbage; roles have thresholds of their own
    try:
        app()
    except NeverstaleError as error:
        print(f"neverstale: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, Misconfigured) else 1)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"neverstale {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
