"""What `neverstale check` found."""

from dataclasses import dataclass
from typing import Literal

Subject = Literal["catalog", "settings", "mongodb", "kafka", "redis"]
Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    subject: Subject
    level: Level
    message: str
    remedy: str = ""
    """What to do; empty where all is well."""
