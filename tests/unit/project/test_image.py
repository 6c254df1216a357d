"""The image, checked without an engine: its wheel is built from exactly the files that the Dockerfile copies.

The lines of the Dockerfile that build the wheel are run as they stand, in a folder that holds what they would find.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from tests.support.project import ROOT
from tests.unit.project.test_compose import services

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]


@dataclass(frozen=True, slots=True)
class Stage:
    base: str
    name: str
    lines: tuple[tuple[str, str], ...]  # instruction and what stands behind it

    def of(self, instruction: str) -> list[str]:
        return [rest for named, rest in self.lines if named == instruction]

    def copied(self) -> Iterator[tuple[str, str]]:
        """Source in the context and target, of every COPY from there."""
        for rest in self.of("COPY"):
            if not rest.startswith("--from="):
                *sources, target = rest.split()
                yield from ((source, target) for source in sources)


def stages(dockerfile: str) -> list[Stage]:
    joined = re.sub(r"\\\n", "", dockerfile)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    parts = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
    starts = [index for index, (word, _) in enumerate(parts) if word == "FROM"]
    return [
        Stage(parts[start][1].split(" AS ")[0], parts[start][1].partition(" AS ")[2], tuple(parts[start + 1 : end]))
        for start, end in zip(starts, [*starts[1:], len(parts)], strict=True)
    ]


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def stage_called(name: str) -> Stage:
    [stage] = [stage for stage in stages(dockerfile()) if stage.name == name]
    return stage


def last_stage() -> Stage:
    return stages(dockerfile())[-1]


def in_context(path: PurePosixPath, rules: Iterable[str]) -> bool:
    """Whether .dockerignore lets a file through: the last rule decides that matches it or a folder above it."""
    kept = True
    for rule in rules:
        pattern = _as_pattern(rule.removeprefix("!"))
        if any(pattern.fullmatch(str(each)) for each in (path, *path.parents)):
            kept = rule.startswith("!")
    return kept


def _as_pattern(rule: str) -> re.Pattern[str]:
    spelled = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(spelled.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*|\?)", rule)))


def rules() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def files_of(source: str) -> Iterator[Path]:
    """The files and links that COPY takes of the context, relative to the project."""
    found = ROOT / source
    for path in sorted(found.rglob("*")) if found.is_dir() else [found]:
        relative = path.relative_to(ROOT)
        if (path.is_file() or path.is_symlink()) and in_context(PurePosixPath(relative), rules()):
            yield relative


def lay(folder: Path, copied: Iterable[tuple[str, str]]) -> None:
    for source, target in copied:
        for file in files_of(source):
            below = file.relative_to(source) if (ROOT / source).is_dir() else Path(file.name)
            laid = folder / target / below
            laid.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, laid, follow_symlinks=False)


def build(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """The wheel, by the lines of a Dockerfile; pip and the build backend are those that run the tests."""
    wanted = [stage for stage in stages(text) if stage.name in ("dependencies", "build")]
    lay(folder, (copied for stage in wanted for copied in stage.copied()))
    [command] = [line for stage in wanted for line in stage.of("RUN") if line.startswith("pip wheel ")]
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("src")
    ended = build(folder, dockerfile())
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [made] = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`neverstale`, installed from the wheel alone: beside the tests' dependencies, out of sight of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", purelib], capture_output=True, text=True, check=True).stdout.strip())
    # A line of a .pth file is a folder to import from, whose own .pth files (the editable install's) do not count.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    subprocess.run(pip, check=True)
    return folder / "venv" / "bin" / "neverstale"


def outside(tmp_path: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(words, cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)


def in_wheel(wheel: Path) -> set[str]:
    """Its files but for what is told about them."""
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name or "/licenses/" in name}


def test_the_wheel_holds_every_file_of_every_package(wheel: Path) -> None:
    ours = {
        str(Path(folder, name).relative_to(ROOT))
        for package in WHEEL["packages"]
        for folder, _, names in os.walk(ROOT / package, followlinks=True)
        for name in names
        if "__pycache__" not in folder
    }
    assert {name.endswith(".lua") for name in ours} == {True, False}
    [licence] = in_wheel(wheel) - ours - set(WHEEL["force-include"].values())
    assert licence.endswith(".dist-info/licenses/LICENSE")
    assert ours | set(WHEEL["force-include"].values()) <= in_wheel(wheel)


def test_what_is_put_into_the_wheel_is_what_the_checkout_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        for source, target in WHEEL["force-include"].items():
            assert opened.read(target) == (ROOT / source).read_bytes()


def test_the_command_runs_from_the_wheel_outside_of_the_checkout(command: Path, tmp_path: Path) -> None:
    ended = outside(tmp_path, command, "--help")
    assert ended.returncode == 0, ended.stderr
    assert PROJECT["project"]["description"] in ended.stdout


def test_every_module_of_the_wheel_can_be_imported(command: Path, wheel: Path, tmp_path: Path) -> None:
    modules = sorted(name.removesuffix(".py").replace("/", ".") for name in in_wheel(wheel) if name.endswith(".py"))
    imports = "".join(f"import {name.removesuffix('.__init__')}\n" for name in modules)
    ended = outside(tmp_path, command.with_name("python"), "-c", imports + "print(neverstale.ops.__file__)")
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.strip()).is_relative_to(command.parents[1])


def test_the_wheel_owns_one_import_name(wheel: Path) -> None:
    assert {name.partition("/")[0] for name in in_wheel(wheel) if ".dist-info/" not in name} == {"neverstale"}


def test_it_works_beside_a_project_with_packages_of_the_same_names(command: Path, tmp_path: Path) -> None:
    for name in ("api", "consumers", "ops", "streams"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("THEIRS = True\n")
    imports = "import api, consumers, ops, streams, neverstale.api.main, neverstale.ops.cli; print(api.THEIRS)"
    ended = outside(tmp_path, command.with_name("python"), "-c", imports)
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def test_the_catalog_of_the_image_passes_the_check(command: Path, tmp_path: Path) -> None:
    lay(tmp_path, last_stage().copied())
    ended = outside(tmp_path, command, "check", "--offline", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"ok": true' in ended.stdout


def test_the_demo_of_the_image_finds_its_catalog_and_its_week(command: Path, tmp_path: Path) -> None:
    story = (
        "from neverstale.ops.demo.flights import board, play; print(play.demo_catalog(), len(board.week().flights))"
    )
    ended = outside(tmp_path, command.with_name("python"), "-c", story)
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.split()[0]).is_relative_to(command.parents[1])


@pytest.mark.parametrize("left_out", ["catalog.toml", "LICENSE", "ops"])
def test_a_file_that_the_dockerfile_forgets_is_noticed(left_out: str, wheel: Path, tmp_path: Path) -> None:
    """Negative controls of this file's own build; the first is what was wrong once."""
    lines = [line for line in dockerfile().splitlines() if line != f"COPY {left_out} {left_out}"]
    text = "\n".join(re.sub(rf"(COPY .*)\b{re.escape(left_out)} (.*)", r"\1\2", line) for line in lines)
    ended = build(tmp_path, text)
    assert ended.returncode or in_wheel(next((tmp_path / "dist").glob("*.whl"))) != in_wheel(wheel)


def test_dependencies_are_a_layer_that_no_source_of_ours_touches() -> None:
    stage = stage_called("dependencies")
    assert {source for source, _ in stage.copied()} == {"pyproject.toml", "constraints.txt"}
    [index] = [index for index, (_, rest) in enumerate(stage.lines) if "pip" in rest.split()]
    assert all(word == "RUN" for word, _ in stage.lines[index:])
    assert ("COPY", "--from=dependencies /opt/neverstale /opt/neverstale") in last_stage().lines


def test_what_is_installed_for_the_image_is_pinned() -> None:
    installs = re.findall(r"\bpip [^&]*\binstall\b[^&]*", "\n".join(stage_called("dependencies").of("RUN")))
    assert installs and all("--constraint constraints.txt" in line for line in installs)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in _constraints()}
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    names = {re.split(r"[\[<>=; ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= pinned


def _constraints() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_ours_is_built_and_installed_without_a_package_index() -> None:
    runs = stage_called("build").of("RUN")
    assert [rest for rest in runs if "pip" in rest.split() and "--no-index" not in rest] == []
    assert not any("pip" in rest.split() for rest in last_stage().of("RUN"))


def test_everything_that_is_copied_is_there_and_nothing_else_is_sent() -> None:
    copied = {source for stage in stages(dockerfile()) for source, _ in stage.copied()}
    assert [source for source in sorted(copied) if not any(files_of(source))] == []
    sent = {path.name for path in ROOT.iterdir() if in_context(PurePosixPath(path.name), rules())}
    assert sent == copied


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("neverstale/keys.py", True),
        ("neverstale/redis/scripts/read.lua", True),
        ("ops/demo/data/flights-2013-02-04-to-10.csv.gz", True),
        ("neverstale/__pycache__/keys.cpython-311.pyc", False),
        ("ops/demo/__pycache__/main.cpython-311.pyc", False),
        ("tests/unit/project/test_image.py", False),
        (".git/config", False),
        (".env", False),
        ("neverstale.toml", False),
    ],
)
def test_the_context_holds_sources_and_no_leavings(path: str, sent: bool) -> None:
    assert in_context(PurePosixPath(path), rules()) is sent


def test_the_image_is_slim_and_pinned() -> None:
    [version] = [line for line in dockerfile().splitlines() if line.startswith("ARG PYTHON=")]
    assert re.fullmatch(r"ARG PYTHON=3\.\d+\.\d+-slim-[a-z]+", version)
    assert {stage.base for stage in stages(dockerfile())} == {"python:${PYTHON}", "dependencies"}
    assert last_stage().base == "python:${PYTHON}"


def test_the_image_says_what_it_is() -> None:
    labels = dict(re.findall(r'([\w.]+)="([^"]*)"', " ".join(last_stage().of("LABEL"))))
    project = PROJECT["project"]
    assert labels["org.opencontainers.image.description"] == project["description"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert f"\nARG VERSION={project['version']}\n" in dockerfile()
    assert {"ARG": last_stage().of("ARG")} == {"ARG": ["PYTHON", "VERSION"]}, (
        "a label sees no other stage's arguments"
    )


def test_the_image_holds_a_bill_of_what_is_in_it() -> None:
    [command] = [line for line in stage_called("build").of("RUN") if "neverstale.ops.sbom" in line]
    [label] = re.findall(r'neverstale\.sbom="([^"]+)"', " ".join(last_stage().of("LABEL")))
    assert f"> /built{label}" in command
    assert ("COPY", "--from=build /built/opt/neverstale /opt/neverstale") in last_stage().lines


def test_the_image_runs_as_nobody_special() -> None:
    [user] = last_stage().of("USER")
    assert user.isdigit() and int(user) > 0


def test_the_catalog_lies_where_the_roles_look_for_it() -> None:
    [folder] = last_stage().of("WORKDIR")
    assert {services()[role]["environment"]["NEVERSTALE_CATALOG"] for role in ("watcher", "consumer", "api")} == {
        f"{folder}/catalog.toml"
    }
