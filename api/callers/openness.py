"""What is open to everybody, in words: said at the start of an API, and by `neverstale check`."""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from neverstale.catalog import Catalog
from neverstale.role import telemetry
from neverstale.settings import CallerSettings

log = telemetry.logger(__name__)

KEYS: Final = "NEVERSTALE_CALLERS__KEYS_FILE"
SHOWN: Final = 5


class Openness(NamedTuple):
    level: Literal["ok", "warning", "problem"]
    message: str
    remedy: str = ""


def openness(settings: CallerSettings, catalog: Catalog, *, reached_from_outside: bool) -> list[Openness]:
    """What to know of it. `reached_from_outside`: the API listens on more than this machine's own addresses."""
    resources = catalog.resources.values()
    if settings.configured:
        public = [resource.name for resource in resources if resource.public]
        open_to_all = f"; open to everybody: {_named(public)}" if public else ""
        return [Openness("ok", f"callers show a key or a token{open_to_all}")]
    found = []
    if unread := [resource.name for resource in resources if resource.public is False]:
        message = f"nobody can read {_named(unread)}: public is false, and no callers are configured"
        remedy = f"set {KEYS} and make keys: neverstale keys add NAME --scope 'read:*' --file FILE"
        found.append(Openness("problem", message, remedy))
    if len(unread) < len(catalog.resources):
        who = "whoever reaches its port" if reached_from_outside else "every process of this machine"
        message = f"no callers are configured: {who} reads all that is not closed"
        remedy = f"set {KEYS} and make keys (neverstale keys add), or keep the port closed"
        found.append(Openness("warning" if reached_from_outside else "ok", message, remedy))
    return found


def say_openness(settings: CallerSettings, catalog: Catalog) -> None:
    """Says it in the log: what is open to everybody is never so without a word."""
    for found in openness(settings, catalog, reached_from_outside=True):
        say = log.info if found.level == "ok" else log.warning
        say("callers", reason=found.message, remedy=found.remedy)


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
