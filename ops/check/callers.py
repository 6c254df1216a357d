"""Who may ask the API: its keys can be read, and what is open is said."""

from collections.abc import Iterable

from neverstale.api.callers.fresh_keys import check_files
from neverstale.api.callers.openness import openness
from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.links.exposure import is_local
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.names import FindingName
from neverstale.settings import Settings

_say = about("callers", "settings")


def check_callers(settings: Settings, catalog: Catalog) -> Iterable[Finding]:
    try:
        check_files(settings.callers)
    except Misconfigured as error:
        yield _say("problem", "keys-unreadable", f"{error.where}: {error.problem}", error.remedy)
    outside = not is_local(settings.api.host)
    for found in openness(settings.callers, catalog, reached_from_outside=outside):
        if found.level == "ok":
            yield _say.well(found.message)
        else:
            name: FindingName = "nobody-can-read" if found.level == "problem" else "open-to-everybody"
            yield _say(found.level, name, found.message, found.remedy)
