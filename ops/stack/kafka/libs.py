"""Apache Kafka from its published Maven artefacts, fetched once into the user's cache folder."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import Launch, RunningProcess

KAFKA_VERSION = "4.1.1"
LEAST_JAVA = 17
VARIABLE = "NEVERSTALE_KAFKA_LIBS"
FETCH_SECONDS = 300.0
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# slf4j-simple rather than a full logging set-up: warnings go to the error stream, so into our log file.
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>neverstale</groupId>
  <artifactId>kafka-libs</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""


def find_java() -> Path | None:
    """A Java of version 17 or later: JAVA_HOME's, or the one on PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    return Path(found) if found and _java_version(found) >= LEAST_JAVA else None


def cached_libs() -> Path | None:
    """The folder with Kafka's jars, if it is here: the variable's, or the cache's."""
    if named := os.environ.get(VARIABLE):
        if not any(Path(named).glob("kafka_*.jar")):
            raise StackError(f"{VARIABLE} names a folder without Kafka's jars: {named}", "correct it or unset it")
        return Path(named)
    return _cache() if _cache().is_dir() else None


def can_fetch() -> bool:
    return shutil.which("mvn") is not None


async def fetch_libs() -> Path:
    """Let Maven copy Kafka and what it needs into the cache folder, which appears whole or not at all.

    Raises:
        StackError: there is no Maven, or it could not fetch them.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError("Apache Kafka's jars are not here and Maven (mvn) is not either", REMEDY)
    _cache().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cache().parent, prefix=".fetch-") as name:
        folder = Path(name)
        await _run_maven(maven, folder)
        try:
            (folder / "libs").rename(_cache())
        except OSError:
            if not _cache().is_dir():  # otherwise another process was faster: its copy is as good
                raise
    return _cache()


REMEDY = f"install Maven, set {VARIABLE} to a folder with them, or use --broker embedded"


async def _run_maven(maven: str, folder: Path) -> None:
    pom = folder / "pom.xml"
    pom.write_text(POM)
    fetched = folder / "libs"

    async def ended() -> bool:
        return run.exit_code is not None

    launch = Launch(
        name="mvn",
        argv=[maven, "-B", "-q", "-f", pom, COPY_DEPENDENCIES, f"-DoutputDirectory={fetched}"],
        log=folder / "mvn.log",
        ready=ended,
        remedy=REMEDY,
        ready_seconds=FETCH_SECONDS,
    )
    run = RunningProcess(launch)
    try:
        await run.until_ready()
    finally:
        run.kill()
    if run.exit_code != 0 or not any(fetched.glob("kafka_*.jar")):
        raise StackError(f"Apache Kafka could not be fetched: {run.obituary}", REMEDY)


def kept_features(libs: Path) -> Path:
    """Where the features that a cluster of this release begins with are kept, once known. The release is that of the
    jars, which may not be the one that is fetched."""
    return _cache().with_name(f"{_release(libs)}.checkpoint")


def kept_classes(libs: Path, digest: str) -> Path:
    """Where the classes of these jars are kept as a JVM wants them in memory. `digest`: of the jars and of Java."""
    return _cache().with_name(f"{_release(libs)}-{digest}.jsa")


def _release(libs: Path) -> str:
    return min(libs.glob("kafka_*.jar")).stem


def _cache() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "neverstale" / f"kafka-{KAFKA_VERSION}"


def _java_version(java: str) -> int:
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', answer)
    return int(match[1]) if match else 0
