"""`check` says what is open to everybody, what nobody can read, and keys that cannot be read."""

from pathlib import Path
from typing import Any

import pytest

from neverstale.catalog import Catalog
from neverstale.ops.check.callers import check_callers
from neverstale.settings import Api, CallerSettings, Settings


def catalog(**public: bool | None) -> Catalog:
    resources = {name: {"key_type": "string", "public": value} for name, value in public.items()}
    return Catalog.model_validate({"database": "test", "resources": resources})


@pytest.mark.parametrize(
    ("host", "public", "found"),
    [
        ("127.0.0.1", {"a": None}, [("ok", "every process of this machine reads all")]),
        ("0.0.0.0", {"a": None}, [("warning", "whoever reaches its port reads all")]),
        ("0.0.0.0", {"a": None, "b": False}, [("problem", "nobody can read b"), ("warning", "whoever reaches")]),
        ("127.0.0.1", {"a": False}, [("problem", "nobody can read a")]),
    ],
)
def test_without_callers_it_is_said_who_reads_what(host: str, public: Any, found: list[tuple[str, str]]) -> None:
    said = list(check_callers(Settings(api=Api(host=host)), catalog(**public)))
    assert [one.level for one in said] == [level for level, _ in found]
    assert all(words in one.message for one, (_, words) in zip(said, found, strict=True))


def test_with_callers_it_is_said_what_is_public(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"format": 1, "keys": []}')
    settings = Settings(callers=CallerSettings(keys_file=path))
    (said,) = check_callers(settings, catalog(a=None, b=True, c=False))
    assert (said.level, said.message) == ("ok", "callers show a key or a token; open to everybody: b")


def test_a_file_of_keys_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    settings = Settings(callers=CallerSettings(keys_file=tmp_path / "nothing"))
    assert [one.level for one in check_callers(settings, catalog(a=None))] == ["problem", "ok"]
