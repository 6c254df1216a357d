"""The command line: what it hands on, what it prints, how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner, Result

from neverstale.errors import Misconfigured, Outage
from neverstale.ops import cli
from neverstale.ops.check.findings import Finding
from tests.support.project import ROOT

CATALOG = str(ROOT / "catalog.toml")

Fake = Callable[[str, dict[str, Any]], None]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, an environment without our variables, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NEVERSTALE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a module in the place of one that a command imports."""

    def put(name: str, contents: dict[str, Any]) -> None:
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)

    return put


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, list(arguments))


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the console script."""
    monkeypatch.setattr(sys, "argv", ["neverstale", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_help_names_every_command() -> None:
    text = call("--help").output
    assert all(name in text for name in ("up", "demo", "run", "check", "settings", "status"))


def test_without_a_command_the_help_is_shown_as_wrong_use() -> None:
    result = call()
    assert result.exit_code == 2 and "Usage" in result.output


def test_the_version_is_printed() -> None:
    assert call("--version").output == "neverstale 0.1.0\n"


def test_asking_for_help_imports_no_client_and_no_server() -> None:
    heavy = {"pymongo", "redis", "aiokafka", "fastapi", "uvicorn", "pydantic"}
    code = f"import sys, neverstale.ops.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or 0)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_module_runs_as_the_console_script_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "neverstale.ops.cli", "run", "watcher", "--catalog", str(tmp_path / "none.toml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("neverstale: ") and ended.stderr.count("\n") == 1


def test_a_wrong_declaration_is_a_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEVERSTALE_API__PORT", "http")
    assert main(monkeypatch, "settings") == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == 'neverstale: NEVERSTALE_API__PORT: "http" is not a whole number; use a whole number\n'


def test_several_problems_are_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEVERSTALE_API__PORT", "http")
    monkeypatch.setenv("NEVERSTALE_API__PROT", "1")
    assert main(monkeypatch, "settings") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(("error", "code"), [(Misconfigured("a", "b", "c"), 2), (Outage("redis", "gone"), 1)])
def test_an_error_that_escapes_a_role_is_no_traceback(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def run(*_: object) -> int:
        raise error

    fake("neverstale.streams.main", {"run": run})
    assert main(monkeypatch, "run", "watcher", "--catalog", CATALOG) == code
    assert capsys.readouterr().err == f"neverstale: {error}\n"


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["run", "cook"], ["check", "--fast"], ["up", "--api-port", "x"]]
)
def test_wrong_use_ends_with_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("role", "module"),
    [
        ("watcher", "neverstale.streams.main"),
        ("consumer", "neverstale.consumers.main"),
        ("api", "neverstale.api.main"),
    ],
)
def test_run_hands_settings_and_catalog_to_the_role_and_ends_as_it_ends(fake: Fake, role: str, module: str) -> None:
    seen: list[Any] = []

    def run(settings: Any, catalog: Any, renewal: Any) -> int:
        seen.extend((settings, catalog, renewal.granted))
        return 7

    fake(module, {"run": run})
    assert call("run", role, "--catalog", CATALOG).exit_code == 7
    assert (str(seen[0].catalog), seen[1].database, seen[2]) == (CATALOG, "nyc", False)


def test_up_hands_on_its_options(fake: Fake, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    async def up(options: dict[str, Any]) -> int:
        seen.update(options)
        return 1

    (tmp_path / "neverstale.toml").write_text("[api]\nport = 81\nworkers = 3\n")
    fake("neverstale.ops.up", {"up": up, "UpOptions": dict})
    ports = "--api-port 1 --mongo-port 2 --redis-port 3 --kafka-port 4"
    line = f"up --data {tmp_path} --catalog c.toml {ports} --consumers 5 --api-workers 6 --broker kafka"
    assert call(*line.split()).exit_code == 1
    assert seen.pop("settings").api.workers == 3
    assert seen.pop("origins")["api.workers"] == "neverstale.toml: api.workers"
    assert seen == {
        "config": Path("neverstale.toml"),
        "data": tmp_path,
        "catalog": Path("c.toml"),
        "api_port": 1,
        "mongo_port": 2,
        "redis_port": 3,
        "kafka_port": 4,
        "consumers": 5,
        "api_workers": 6,
        "broker": "kafka",
        "demo": False,
        "console_port": 8010,
    }


@pytest.mark.parametrize("where", ["file", "environment", "--config"])
def test_up_takes_from_the_settings_what_no_option_says(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    seen: dict[str, Any] = {}

    async def up(options: dict[str, Any]) -> int:
        seen.update(options)
        return 0

    fake("neverstale.ops.up", {"up": up, "UpOptions": dict})
    arguments = ["up"]
    if where == "environment":
        monkeypatch.setenv("NEVERSTALE_CATALOG", str(tmp_path / "mine.toml"))
        monkeypatch.setenv("NEVERSTALE_API__PORT", "81")
        monkeypatch.setenv("NEVERSTALE_API__WORKERS", "3")
    else:
        file = tmp_path / ("neverstale.toml" if where == "file" else "other.toml")
        file.write_text('catalog = "mine.toml"\n[api]\nport = 81\nworkers = 3\n')
        arguments += [] if where == "file" else ["--config", str(file)]
    assert call(*arguments).exit_code == 0
    assert (seen["catalog"].name, seen["api_port"], seen["api_workers"]) == ("mine.toml", 81, 3)


def test_demo_hands_on_its_options(fake: Fake, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def demo(options: dict[str, Any]) -> int:
        seen.update(options)
        return 0

    fake("neverstale.ops.demo.main", {"demo": demo, "DemoOptions": dict})
    line = f"demo --seconds 5 --json {tmp_path}/out.json --broker embedded --chaos"
    assert call(*line.split()).exit_code == 0
    given = {"seconds": 5.0, "json": tmp_path / "out.json", "broker": "embedded", "chaos": True}
    defaults = {"data": None, "consumers": 2, "sabotage": False, "open": False, "seed": 1}
    load = {"readers": 16, "reads_per_second": 1000, "writes_per_second": 200}
    assert seen == given | defaults | load


@pytest.mark.parametrize(
    ("line", "handed"),
    [
        ("flights", ("flights", None, False, True)),
        ("flights --rate 20 --no-wait", ("flights", 20.0, False, False)),
        ("flights --stop", ("flights", None, True, True)),
    ],
)
def test_resync_hands_on_its_options(fake: Fake, line: str, handed: tuple[Any, ...]) -> None:
    from neverstale.ops.repair.resync import ResyncWanted

    async def resync(settings: Any, catalog: Any, wanted: ResyncWanted, *, quiet: bool) -> Ended:
        return Ended((wanted.resource, wanted.rate, wanted.stop, wanted.wait) == handed and not quiet)

    fake("neverstale.ops.repair.resync", {"resync": resync, "print_resync": said, "ResyncWanted": ResyncWanted})
    assert call("resync", *line.split(), "--catalog", CATALOG).exit_code == 0


@pytest.mark.parametrize(
    ("line", "handed"),
    [
        ("flights a b", ("flights", ("a", "b"), False, 30.0)),
        ("--all --deadline 5", (None, (), True, 5.0)),
        ("flights --no-wait", ("flights", (), False, None)),
    ],
)
def test_invalidate_hands_on_its_options(fake: Fake, line: str, handed: tuple[Any, ...]) -> None:
    from neverstale.ops.repair.invalidate import InvalidateWanted

    async def invalidate(settings: Any, catalog: Any, wanted: InvalidateWanted) -> Ended:
        return Ended((wanted.resource, wanted.keys, wanted.everything, wanted.wait_seconds) == handed)

    fake(
        "neverstale.ops.repair.invalidate",
        {"invalidate": invalidate, "print_invalidation": said, "InvalidateWanted": InvalidateWanted},
    )
    assert call("invalidate", *line.split(), "--catalog", CATALOG).exit_code == 0


@pytest.mark.parametrize("well", [True, False])
def test_rebuild_and_its_check_end_as_they_find(fake: Fake, monkeypatch: pytest.MonkeyPatch, well: bool) -> None:
    async def rebuild(settings: Any, catalog: Any, resource: str, name: Any, *, wait: bool, quiet: bool) -> Ended:
        return Ended(well and (resource, name, wait, quiet) == ("flights", None, False, True))

    async def drift(settings: Any, catalog: Any, resource: str, name: Any) -> Ended:
        return Ended(well and (resource, name) == ("flights", "by_status"))

    monkeypatch.setattr("neverstale.role.telemetry.configure_logging", lambda _: None)  # the tests' logs are not ours
    fake("neverstale.ops.repair.rebuild", {"rebuild": rebuild, "print_rebuild": said})
    fake("neverstale.ops.repair.drift", {"drift": drift, "print_drift": said})
    code = 0 if well else 1
    assert call("rebuild", "flights", "--no-wait", "--json", "--catalog", CATALOG).exit_code == code
    assert call("rebuild", "flights", "by_status", "--check", "--catalog", CATALOG).exit_code == code


class Ended(NamedTuple):
    """What a command finds."""

    ok: bool


def said(found: Ended, *, as_json: bool) -> None:
    """What prints it."""


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("resync flihgts", "RESOURCE: flihgts is not declared in {}; did you mean flights?"),
        ("invalidate flihgts a", "RESOURCE: flihgts is not declared in {}; did you mean flights?"),
        ("invalidate", "RESOURCE: nothing is named; name a resource, or say --all"),
        ("invalidate flights --all", "--all: flights is named, too; name a resource, or say --all"),
        (
            "rebuild airports",
            "RESOURCE: airports declares no list, counter, ranking or look-up in {}; ",
        ),
        (
            "rebuild flights by_stats",
            "NAME: flights declares no list, counter, ranking or look-up by_stats; did ",
        ),
        (
            "rebuild flights departed --check",
            "NAME: flights declares no list, counter, ranking or look-up departed; ",
        ),
        ("check --offline --create-indexes", "--create-indexes: no server is asked with --offline; leave one "),
    ],
)
def test_what_is_not_there_is_a_sentence_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert main(monkeypatch, *line.split(), "--catalog", CATALOG) == 2
    assert capsys.readouterr().err.startswith(f"neverstale: {sentence.format(CATALOG)}")


def test_every_key_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text('database = "shop"\n[resources.items]\nkey_type = "int"\n')
    assert main(monkeypatch, "invalidate", "items", "1", "one", "02", "--catalog", "c.toml") == 2
    assert capsys.readouterr().err.splitlines() == [
        'neverstale: KEY: "one": expected a whole number, e.g. 42; resources.items.key_type says int',
        'KEY: "02": expected a whole number, e.g. 42; resources.items.key_type says int',
    ]


def test_the_file_in_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "neverstale.toml").write_text("[api]\nport = 81\n")
    assert setting("api.port") == {"value": 81, "origin": "neverstale.toml: api.port"}


def test_another_file_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "neverstale.toml").write_text("[api]\nport = 81\n")
    (tmp_path / "other.toml").write_text("[api]\nport = 82\n")
    assert setting("api.port", "--config", "other.toml") == {"value": 82, "origin": "other.toml: api.port"}


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVERSTALE_CATALOG", "env.toml")
    assert setting("catalog", "--catalog", "c.toml") == {"value": "c.toml", "origin": "option --catalog"}


def setting(name: str, *arguments: str) -> dict[str, Any]:
    rows = {row["setting"]: row for row in json.loads(call("settings", "--json", *arguments).output)}
    return {"value": rows[name]["value"], "origin": rows[name]["origin"]}


@pytest.mark.parametrize("arguments", [["settings"], ["settings", "--json"]])
def test_no_secret_is_ever_printed(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setenv("NEVERSTALE_MONGODB__URI", "mongodb://me:s3cret@h/?replicaSet=rs0")
    monkeypatch.setenv("NEVERSTALE_REDIS__URL", "redis://:s3cret@h/0")
    monkeypatch.setenv("NEVERSTALE_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("NEVERSTALE_KAFKA__SASL_USERNAME", "me")
    monkeypatch.setenv("NEVERSTALE_KAFKA__SASL_PASSWORD", "s3cret")
    text = call(*arguments).output
    assert "s3cret" not in text
    assert "mongodb://***@h/?replicaSet=rs0" in text and "redis://***@h/0" in text


def test_a_piped_table_keeps_a_setting_on_one_line() -> None:
    lines = call("settings").output.splitlines()
    assert any(line.split() == ["kafka.topic", "neverstale.changes", "default"] for line in lines)


def test_check_offline_needs_no_server() -> None:
    result = call("check", "--offline", "--json", "--catalog", CATALOG)
    assert result.exit_code == 0
    assert json.loads(result.output)["ok"] is True


@pytest.mark.parametrize(("level", "code"), [("ok", 0), ("warning", 0), ("problem", 1)])
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_check_and_doctor_end_with_1_only_on_a_problem(
    monkeypatch: pytest.MonkeyPatch, command: str, level: Any, code: int
) -> None:
    async def found(*_: Any, **__: Any) -> list[Finding]:
        return [Finding("memory", "redis", level, "full", "[this] is\x1b[2J said", f"do [that]\n{'x' * 500}")]

    monkeypatch.setattr(f"neverstale.ops.{command}.{command}.{command}", found)
    result = call(command, "--catalog", CATALOG)
    assert result.exit_code == code
    assert "[this] is\\x1b[2J said" in result.output and "do [that]" in result.output
    assert "x" * 500 in result.output  # a line to paste is never broken
    told = json.loads(call(command, "--json", "--catalog", CATALOG).output)
    assert (told["ok"], told["findings"][0]["check"]) == (code == 0, "memory")


def test_why_wants_one_key_or_one_group() -> None:
    for wrong in (("why", "flights"), ("why", "flights", "a", "--of", "by_status")):
        result = call(*wrong, "--catalog", CATALOG)
        assert isinstance(result.exception, Misconfigured) or result.exit_code == 2


GROUPED = """
database = "shop"
[resources.flights]
key_type = "string"
[resources.orders]
key_type = "int"
[watchers.orders]
collections = ["orders"]
"""


@pytest.mark.parametrize(
    ("role", "groups", "handed"),
    [
        ("watcher", [], "default"),
        ("watcher", ["orders"], "orders"),
        ("consumer", [], ""),
        ("consumer", ["orders", "default"], "orders,default"),
    ],
)
def test_a_role_is_handed_its_watcher_groups(
    role: str, groups: list[str], handed: str, fake: Fake, tmp_path: Path
) -> None:
    seen: list[str] = []

    def run(settings: Any, catalog: Any, renewal: Any) -> int:
        seen.append(settings.watcher.watches if role == "watcher" else settings.consumer.consumes)
        return 0

    for name in ("streams", "consumers"):
        fake(f"neverstale.{name}.main", {"run": run})
    path = tmp_path / "grouped.toml"
    path.write_text(GROUPED)
    options = [part for group in groups for part in ("--group", group)]
    assert call("run", role, "--catalog", str(path), *options).exit_code == 0
    assert seen == [handed]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("run", "watcher", "--group", "order"), "did you mean orders?"),
        (("run", "consumer", "--group", "default", "--group", "order"), "did you mean orders?"),
        (("run", "watcher", "--group", "orders", "--group", "default"), "a watcher is of one group"),
        (("run", "api", "--group", "orders"), "the api is for all watcher groups"),
        (("dlq", "list", "--group", "order"), "the catalog has no collection in a watcher group 'order'"),
    ],
)
def test_watcher_groups_that_cannot_be_are_refused(
    arguments: tuple[str, ...],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "grouped.toml"
    path.write_text(GROUPED)
    assert main(monkeypatch, *arguments, "--catalog", str(path)) == 2
    assert problem in capsys.readouterr().err
