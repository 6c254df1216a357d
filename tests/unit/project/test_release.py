"""What `make release` checks before it builds. What it builds is built by test_image, too."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.project import ROOT

CHECKED = ("pyproject.toml", "neverstale/__init__.py", "docker-compose.yml", "Dockerfile", "CHANGELOG.md")


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, release: ModuleType) -> Path:
    """What is checked, as it is before a release: the changelog has the version."""
    for name in CHECKED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    version = release.tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## [Unreleased]", f"## [{version}] - 2026-12-01", 1))
    return tmp_path


def test_files_that_agree_make_a_release(checkout: Path, release: ModuleType) -> None:
    assert release.checked_version(checkout) == release.checked_version(checkout)


@pytest.mark.parametrize("name", [name for name in CHECKED if name != "pyproject.toml"])
def test_a_file_that_says_another_version_stops_it(checkout: Path, release: ModuleType, name: str) -> None:
    project = checkout / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "', 'version = "9.', 1))
    for other in set(CHECKED) - {name, "pyproject.toml"}:
        text = (checkout / other).read_text()
        for before, after in (
            ('__version__ = "', '__version__ = "9.'),
            ("image: neverstale:", "image: neverstale:9."),
            ("ARG VERSION=", "ARG VERSION=9."),
            ("## [0.", "## [9.0."),
        ):
            text = text.replace(before, after)
        (checkout / other).write_text(text)
    with pytest.raises(release.Wrong, match=name.replace(".", r"\.")):
        release.checked_version(checkout)


def test_a_wheel_that_owns_another_name_is_refused(release: ModuleType, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "w.whl", "w") as opened:
        opened.writestr("neverstale/__init__.py", "")
        opened.writestr("api/__init__.py", "")
    with pytest.raises(release.Wrong, match="api"):
        release.contents(tmp_path / "w.whl")


def test_the_source_archive_makes_the_wheel_that_the_checkout_makes(release: ModuleType, tmp_path: Path) -> None:
    wheel, archive = release.build(ROOT, tmp_path / "dist")
    assert release.contents(release.wheel_of(archive, tmp_path)) == release.contents(wheel)
