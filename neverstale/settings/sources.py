"""Where settings come from: the command line, the environment, `neverstale.toml`, the defaults, in this order.

Every value remembers its origin, so that a wrong one is reported with the place to correct. A variable
that starts with `NEVERSTALE_` and is no setting is an error: a misspelt one would otherwise do nothing.
An empty variable counts as not set, so that `${VAR:-}` of a compose file means the default. A secret may lie in
a file instead, named by its variable and `_FILE`: containers are given secrets so.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from neverstale.errors import Misconfigured
from neverstale.misconfiguration import Location, did_you_mean, read_toml, sentence, together
from neverstale.settings import Settings

PREFIX = "NEVERSTALE_"
DEFAULT = "default"
IN_FILE = "_FILE"

NOT_SETTINGS = frozenset(
    ("NEVERSTALE_CONFIG", "NEVERSTALE_MONGOD", "NEVERSTALE_REDIS_SERVER", "NEVERSTALE_KAFKA_LIBS", "NEVERSTALE_TEST_")
)
"""Variables of the command line, the local stack and the tests; one that ends in `_` stands for all that start so."""

Origins: TypeAlias = dict[str, str]
"""Setting ("kafka.topic") -> where its value comes from, as a person would look for it."""


def fields() -> dict[str, FieldInfo]:
    """Every setting by its dotted name, in the order of the settings module."""
    found: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        section = _section(field)
        if section is None:
            found[name] = field
        else:
            found.update({f"{name}.{inner}": inner_field for inner, inner_field in section.model_fields.items()})
    return found


def variable(setting: str) -> str:
    """The environment variable of a setting: `kafka.topic` -> `NEVERSTALE_KAFKA__TOPIC`."""
    return PREFIX + setting.replace(".", "__").upper()


def is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def load(
    environ: Mapping[str, str], toml_path: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[Settings, Origins]:
    """Settings and the origin of each. `toml_path` must exist when given.

    `overrides` come from command line options, by dotted name. `Misconfigured` lists every problem.
    """
    values: dict[str, Any] = {}
    origins: Origins = dict.fromkeys(fields(), DEFAULT)
    problems: list[Misconfigured] = []
    if toml_path is not None:
        _take_file(toml_path, values, origins)
    problems.extend(_take_environment(environ, values, origins))
    for setting, value in (overrides or {}).items():
        _put(values, setting, value)
        origins[setting] = f"option --{setting.replace('.', '-').replace('_', '-')}"
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise together(problems + [_problem(detail, origins, toml_path) for detail in error.errors()]) from None
    if problems:
        raise together(problems)
    return settings, origins


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _put(values: dict[str, Any], setting: str, value: Any) -> None:
    *sections, name = setting.split(".")
    for section in sections:
        held = values.setdefault(section, {})
        if not isinstance(held, dict):
            return  # The file gives no table here; that mistake is reported.
        values = held
    values[name] = value


def _take_environment(
    environ: Mapping[str, str], values: dict[str, Any], origins: Origins
) -> Iterable[Misconfigured]:
    settings = {variable(setting): setting for setting in fields()}
    secrets = secret_files()
    for name, value in sorted(environ.items()):
        if name in settings and value:
            _put(values, settings[name], value)
            origins[settings[name]] = name
        elif name in secrets and value:
            try:
                _put(values, secrets[name], _secret_in(name, Path(value), environ))
            except Misconfigured as problem:
                yield problem
            origins[secrets[name]] = f"{name} ({value})"
        elif name.startswith(PREFIX) and name not in settings and name not in secrets and not _is_other(name):
            yield Misconfigured(name, "is not a setting", _nearest_variable(name, [*settings, *secrets]))


def secret_files() -> dict[str, str]:
    """Variable that names a file -> the secret setting that lies in it."""
    return {variable(name) + IN_FILE: name for name, field in fields().items() if is_secret(field)}


def _secret_in(name: str, path: Path, environ: Mapping[str, str]) -> str:
    """What the file holds, without the line's end that editors add."""
    if environ.get(name.removesuffix(IN_FILE)):
        problem = f"{name.removesuffix(IN_FILE)} is set, too"
        raise Misconfigured(name, problem, "keep one of them")
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise Misconfigured(name, f"{path} cannot be read ({reason})", "name a readable text file") from None
    if not text:
        raise Misconfigured(name, f"{path} is empty", "write the secret into it")
    return text


def _nearest_variable(name: str, known: Iterable[str]) -> str:
    remedy = did_you_mean(name.removeprefix(PREFIX).lower(), [word.removeprefix(PREFIX).lower() for word in known])
    if remedy.startswith("did you mean"):
        return f"did you mean {PREFIX}{remedy.removeprefix('did you mean ').upper()}"
    return "unset it; `neverstale settings` lists all"


def _is_other(name: str) -> bool:
    return name in NOT_SETTINGS or any(name.startswith(other) for other in NOT_SETTINGS if other.endswith("_"))


def _take_file(path: Path, values: dict[str, Any], origins: Origins) -> None:
    for name, value in read_toml(path, "settings file", "correct --config or leave it out").items():
        if not isinstance(value, dict):
            values[name] = _beside(path, name, value)
            origins[name] = f"{path}: {name}"
            continue
        values[name] = {inner: _beside(path, f"{name}.{inner}", held) for inner, held in value.items()}
        origins.update({f"{name}.{inner}": f"{path}: {name}.{inner}" for inner in value})


def _beside(path: Path, setting: str, value: Any) -> Any:
    """A relative path in the file is meant from where the file lies, wherever the command is run."""
    field = fields().get(setting)
    if field is None or not isinstance(value, str) or Path not in (field.annotation, *get_args(field.annotation)):
        return value
    return path.parent / value


def _problem(error: ErrorDetails, origins: Origins, toml_path: Path | None) -> Misconfigured:
    location = tuple(str(part) for part in error["loc"])
    culprit = error.get("ctx", {}).get("field")
    setting = ".".join((*location, culprit) if culprit else location)
    field = fields().get(setting)
    # A whole section in the wrong shape may hold a secret; so may a name that we do not know.
    problem, remedy = sentence(error, _known, secret=field is None or is_secret(field))
    origin = origins.get(setting, f"{toml_path}: {setting}")
    where = f"setting {setting} ({variable(setting)})" if origin == DEFAULT else origin
    return Misconfigured(where, problem, remedy)


def _known(location: Location) -> list[str]:
    if len(location) == 1:
        return list(Settings.model_fields)
    section = _section(Settings.model_fields[str(location[0])])
    return list(section.model_fields) if section else []
