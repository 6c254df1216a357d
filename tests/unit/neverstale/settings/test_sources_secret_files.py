"""Secrets that lie in files."""

from pathlib import Path

import pytest

from neverstale.settings.sources import fields, is_secret, load, secret_files, variable
from tests.unit.neverstale.settings.test_sources import refused


def holding(folder: Path, text: str | bytes) -> str:
    path = folder / "secret"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_every_secret_may_lie_in_a_file() -> None:
    secrets = {name for name, field in fields().items() if is_secret(field)}
    assert {"mongodb.uri", "redis.url", "kafka.sasl_password", "api.cursor_secret"} <= secrets
    assert secret_files() == {f"{variable(name)}_FILE": name for name in secrets}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_what_its_file_holds(tmp_path: Path, end: str) -> None:
    uri = "mongodb://me:p%40ss@db.internal/?replicaSet=rs0"
    named = holding(tmp_path, uri + end)
    settings, origins = load({"NEVERSTALE_MONGODB__URI_FILE": named})
    assert settings.mongodb.uri.get_secret_value() == uri
    assert origins["mongodb.uri"] == f"NEVERSTALE_MONGODB__URI_FILE ({named})"


def test_spaces_belong_to_a_secret(tmp_path: Path) -> None:
    settings, _ = load({"NEVERSTALE_API__CURSOR_SECRET_FILE": holding(tmp_path, " sixteen letters \n")})
    assert settings.api.cursor_secret is not None
    assert settings.api.cursor_secret.get_secret_value() == " sixteen letters "


def test_an_empty_variable_names_no_file() -> None:
    assert load({"NEVERSTALE_REDIS__URL_FILE": ""})[1]["redis.url"] == "default"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty; write the secret into it"),
        ("\n", "is empty; write the secret into it"),
        (b"\xff\xfe", "cannot be read (no UTF-8); name a readable text file"),
    ],
)
def test_a_file_without_a_secret_is_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    named = holding(tmp_path, text)
    assert refused({"NEVERSTALE_REDIS__URL_FILE": named}) == [f"NEVERSTALE_REDIS__URL_FILE: {named} {problem}"]


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    [problem] = refused({"NEVERSTALE_REDIS__URL_FILE": str(tmp_path / "no")})
    assert problem.endswith("cannot be read (No such file or directory); name a readable text file")


def test_two_sources_of_one_secret_are_refused_and_neither_is_shown(tmp_path: Path) -> None:
    environ = {
        "NEVERSTALE_REDIS__URL": "redis://me:s3cret@host/",
        "NEVERSTALE_REDIS__URL_FILE": holding(tmp_path, "redis://me:s3cret@other/"),
    }
    [problem] = refused(environ)
    assert problem == "NEVERSTALE_REDIS__URL_FILE: NEVERSTALE_REDIS__URL is set, too; keep one of them"


def test_a_wrong_secret_in_a_file_is_not_repeated(tmp_path: Path) -> None:
    named = holding(tmp_path, "http://me:s3cret@host/")
    [problem] = refused({"NEVERSTALE_REDIS__URL_FILE": named})
    assert problem.startswith(f"NEVERSTALE_REDIS__URL_FILE ({named}): ") and "s3cret" not in problem


def test_what_is_no_secret_lies_in_no_file() -> None:
    [problem] = refused({"NEVERSTALE_KAFKA__TOPIC_FILE": "x"})
    assert problem.startswith("NEVERSTALE_KAFKA__TOPIC_FILE: is not a setting")
