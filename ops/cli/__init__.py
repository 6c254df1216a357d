"""The command line."""

from neverstale.ops.cli.commands import app, main

__all__ = ["app", "main"]
