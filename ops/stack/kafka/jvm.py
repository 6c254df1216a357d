"""How Kafka's programs are run: which Java, which jars, and what makes a JVM start quickly."""

from dataclasses import dataclass, field
from pathlib import Path

FLAGS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # Neither pays: the second compiler takes longer than a local broker lives, and pauses and half a core; verifying
    # released classes is a seventh of each start, where the JVM lets itself be told.
    "-XX:TieredStopAtLevel=1",
    *("-XX:+IgnoreUnrecognizedVMOptions", "-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


@dataclass(frozen=True, slots=True)
class Jvm:
    java: Path
    libs: Path
    """The folder with Kafka's jars."""
    flags: tuple[str, ...] = field(default=())
    """Further ones."""

    def command(self, main_class: str, *arguments: str | Path) -> list[str | Path]:
        return [self.java, *FLAGS, *self.flags, "-cp", f"{self.libs}/*", main_class, *arguments]

    def reading(self, archive: Path) -> "Jvm":
        """The same with classes that are loaded already, if they are there. Without them it starts as ever."""
        there = archive.is_file() and archive.stat().st_size > 0
        return Jvm(self.java, self.libs, (f"-XX:SharedArchiveFile={archive}",)) if there else self

    def writing(self, archive: Path) -> "Jvm":
        """The same, that leaves the classes that it has loaded there when it is asked to end."""
        return Jvm(self.java, self.libs, (f"-XX:ArchiveClassesAtExit={archive}",))
