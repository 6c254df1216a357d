"""One broker of a cluster: its number, its ports, and its files."""

from dataclasses import dataclass
from pathlib import Path

from neverstale.ops.stack.ports import LOOPBACK


@dataclass(frozen=True, slots=True)
class Node:
    number: int
    port: int
    controller_port: int
    folder: Path

    @property
    def voter(self) -> str:
        return f"{self.number}@{LOOPBACK}:{self.controller_port}"

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log_dirs(self) -> Path:
        return self.folder / "log"

    @property
    def log(self) -> Path:
        """What the broker, and the tool that formats its folder, have to say."""
        return self.folder.parent / "logs" / f"kafka-{self.number}.log"

    @property
    def identity(self) -> Path:
        """What makes a folder a formatted one."""
        return self.log_dirs / "meta.properties"

    @property
    def features(self) -> Path:
        """What the cluster begins with; the same for all of a release."""
        return self.log_dirs / "bootstrap.checkpoint"
