"""The command line."""

from ops.cli.commands import app, main

__all__ = ["app", "main"]
