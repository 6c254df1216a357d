"""Keys are made, listed and revoked by the command line; the file holds hashes, and what is wrong with it is said."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from neverstale.api.callers.key_file import KeyFile, StaticKeys, parsed
from neverstale.errors import Misconfigured
from neverstale.ops.caller_keys import add, revoke
from neverstale.ops.cli import app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def found(path: Path, shown: str) -> str | None:
    parts = parsed(shown.encode())
    key = None if parts is None else StaticKeys(KeyFile.read(path).keys).find(parts)
    return None if key is None else key.name


def test_a_key_that_was_added_is_found_and_no_other(path: Path) -> None:
    _, shown = add(path, "board", ["read:flights"], {"tenant": "acme"}, None)
    _, other = add(path, "desk", ["read:*"], {}, None)
    assert (found(path, shown), found(path, other)) == ("board", "desk")
    swapped = shown.rpartition("_")[0] + "_" + other.split("_", 2)[2]
    assert [found(path, wrong) for wrong in (swapped, shown[:-1], shown + "x", "nsk_", "")] == [None] * 5


def test_the_file_holds_no_key_and_is_for_its_owner_alone(path: Path) -> None:
    _, shown = add(path, "board", ["read:flights"], {}, None)
    assert shown.split("_", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_that_are_added_at_the_same_time_are_all_there(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add(path, f"k{n}", ["read:*"], {}, None), range(16)))
    assert {key.name for key in KeyFile.read(path).keys} == {f"k{n}" for n in range(16)}


def test_a_revoked_key_is_gone_by_its_id_or_by_its_name(path: Path) -> None:
    line, first = add(path, "board", ["read:*"], {}, None)
    _, second = add(path, "board", ["read:*"], {}, None)
    assert [key.id for key in revoke(path, line.id)] == [line.id]
    assert (found(path, first), found(path, second)) == (None, "board")
    revoke(path, "board")
    assert KeyFile.read(path).keys == ()


def test_an_ended_key_is_known_as_such(path: Path) -> None:
    line, _ = add(path, "board", ["read:*"], {}, datetime(2026, 1, 1, tzinfo=UTC))
    assert line.ended(datetime(2026, 1, 1, tzinfo=UTC))
    assert not line.ended(datetime(2025, 12, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "keys": []}',
        '{"format": 1, "keys": [{"id": "secret-secret"}]}',
        '{"format": 1, "keys": [], "more": 1}',
    ],
)
def test_a_file_that_makes_no_sense_is_refused_and_not_repeated(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(Misconfigured) as refused:
        KeyFile.read(path)
    assert "secret-secret" not in str(refused.value)


def test_a_line_with_an_unknown_scope_or_a_second_id_is_refused(path: Path) -> None:
    add(path, "board", ["read:*"], {}, None)
    held = json.loads(path.read_text())
    for wrong in (
        {**held, "keys": [held["keys"][0] | {"scopes": ["write:*"]}]},
        {**held, "keys": [held["keys"][0], held["keys"][0]]},
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(Misconfigured):
            KeyFile.read(path)


def test_the_commands_show_a_key_once_and_list_without_hashes(path: Path) -> None:
    run = CliRunner().invoke
    made = run(app, ["keys", "add", "board", "--scope", "read:flights", "--days", "3", "--file", str(path), "--json"])
    shown = json.loads(made.stdout)["key"]
    assert found(path, shown) == "board"
    listed = run(app, ["keys", "list", "--file", str(path), "--json"]).stdout
    assert json.loads(listed)[0]["scopes"] == ["read:flights"]
    assert KeyFile.read(path).keys[0].sha256 not in listed
    assert run(app, ["keys", "revoke", "nobody", "--file", str(path)]).exit_code == 1
    assert run(app, ["keys", "revoke", "board", "--file", str(path)]).exit_code == 0
    with pytest.raises(Misconfigured, match="no scope"):
        run(app, ["keys", "add", "x", "--scope", "read", "--file", str(path)], catch_exceptions=False)
