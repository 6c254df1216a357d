"""`make release`: builds all that a release consists of into dist/, and checks it. Publishes nothing.

- The version of pyproject.toml is that of the package, of the compose file and of a dated heading in CHANGELOG.md.
- The wheel that is built, the wheel that is built from the source archive, and the checkout hold the same modules;
  one import name is theirs.
- The wheel runs in a fresh environment with the pinned versions, out of sight of the checkout.
- SBOM (CycloneDX) of that environment, checksums of all of it, and its sizes.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Wrong(SystemExit):
    def __init__(self, reason: str) -> None:
        super().__init__(f"release: {reason}")


def main() -> None:
    version = checked_version(ROOT)
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    for old in dist.iterdir():
        old.unlink()
    wheel, archive = build(ROOT, dist)
    with tempfile.TemporaryDirectory() as folder:
        again = wheel_of(archive, Path(folder))
        if contents(again) != contents(wheel):
            raise Wrong(f"the archive makes another wheel: {contents(again) ^ contents(wheel)}")
        run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(archive))
        python = installed(wheel, Path(folder) / "env")
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = str(python.with_name("neverstale"))
        said = run(command, "--version", cwd=folder, env=outside)
        if said.split() != ["neverstale", version]:
            raise Wrong(f"the wheel says that it is {said!r}")
        run(command, "check", "--offline", "--catalog", str(ROOT / "catalog.toml"), cwd=folder, env=outside)
        bill = run(str(python), "-m", "neverstale.ops.sbom", cwd=folder, env=outside)
        (dist / f"neverstale-{version}.cdx.json").write_text(bill + "\n", encoding="utf-8")
        size = sum(file.stat().st_size for file in python.parents[1].rglob("*") if file.is_file())
    made = sorted(dist.iterdir())
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in made)
    (dist / "SHA256SUMS").write_text(sums, encoding="utf-8")
    for file in made:
        print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.relative_to(ROOT)}")
    print(f"{size / 1e6:8.2f} MB  all of it installed, with what it depends on: the image has so much over its base")


def checked_version(root: Path) -> str:
    """The version that is to be released; raises if the files do not agree about it."""
    version: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    places = {
        "neverstale/__init__.py": f'__version__ = "{version}"',
        "docker-compose.yml": f"image: neverstale:{version}",
        "Dockerfile": f"ARG VERSION={version}",
    }
    for name, wanted in places.items():
        if wanted not in (root / name).read_text(encoding="utf-8"):
            raise Wrong(f"{name} does not say {wanted!r}")
    heading = re.compile(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", re.MULTILINE)
    if not heading.search((root / "CHANGELOG.md").read_text(encoding="utf-8")):
        raise Wrong(f"CHANGELOG.md has no '## [{version}] - YYYY-MM-DD': give [Unreleased] its number and date")
    return version


def build(root: Path, dist: Path) -> tuple[Path, Path]:
    """Wheel and source archive of a checkout."""
    run(sys.executable, "-m", "hatchling", "build", "-d", str(dist), cwd=root)
    [wheel], [archive] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return wheel, archive


def wheel_of(archive: Path, folder: Path) -> Path:
    """The wheel that the source archive makes."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "again"), cwd=source)
    [wheel] = (folder / "again").glob("*.whl")
    return wheel


def contents(wheel: Path) -> set[str]:
    """Its files; raises if it owns another import name than ours."""
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    if owned := {name.partition("/")[0] for name in names} - {"neverstale"}:
        raise Wrong(f"the wheel owns {owned}")
    return names


def installed(wheel: Path, folder: Path) -> Path:
    """The Python of a fresh environment that has the wheel and what it depends on, as pinned."""
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    pinned = ("--constraint", str(ROOT / "constraints.txt"))
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *pinned, str(wheel))
    return python


def run(*words: str, cwd: Path | str | None = None, env: dict[str, str] | None = None) -> str:
    ended = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Wrong(f"{' '.join(words)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout.strip()


if __name__ == "__main__":
    main()
