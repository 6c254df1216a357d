"""`neverstale settings`: every setting with its value and origin, and the reference table of the docs."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from neverstale.misconfiguration import redacted
from neverstale.ops.terminal.output import console, print_json, table
from neverstale.settings import Settings
from neverstale.settings.sources import Origins, fields, variable

_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class SettingRow:
    setting: str
    value: Any
    origin: str
    variable: str


def rows(settings: Settings, origins: Origins) -> list[SettingRow]:
    """Every setting in the order of the settings module, fit to be shown to anybody."""
    return [SettingRow(name, _plain(_value(settings, name)), origins[name], variable(name)) for name in fields()]


def print_settings(settings: Settings, origins: Origins, *, as_json: bool) -> None:
    """As JSON: a list of `{setting, value, origin, variable}`."""
    found = rows(settings, origins)
    if as_json:
        print_json([asdict(row) for row in found])
        return
    shown = table("setting", "value", "origin")
    for row in found:
        style = "dim" if row.origin == "default" else ""
        shown.add_row(row.setting, "" if row.value is None else str(row.value), row.origin, style=style)
    console().print(shown)


def reference() -> str:
    """The settings as a Markdown table."""
    lines = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | `{variable(name)}` | {_default(field)} | {_meaning(field)} |"
        for name, field in fields().items()
    ]
    return "\n".join(lines)


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _plain(value: Any) -> Any:
    """A connection string keeps what is no secret, any other secret is hidden whole."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        return redacted(secret) if "://" in secret else _HIDDEN
    if isinstance(value, Path):
        return str(value)
    return redacted(value) if isinstance(value, str) else value


def _default(field: FieldInfo) -> str:
    plain = _plain(field.get_default())
    return "none" if plain is None else f"`{plain:g}`" if isinstance(plain, float) else f"`{plain}`"


def _meaning(field: FieldInfo) -> str:
    text = field.description or ""
    choices = list(_choices(field))
    return f"{text} One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else text


def _choices(field: FieldInfo) -> Iterator[str]:
    for argument in getattr(field.annotation, "__args__", ()):
        if isinstance(argument, str):
            yield argument
