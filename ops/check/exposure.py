"""What crosses a network in plain text, and what is shown to anybody: as far as the settings alone tell."""

from collections.abc import Iterable

from neverstale.links.exposure import exposed
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import export
from neverstale.settings import Settings


def check_exposure(settings: Settings) -> Iterable[Finding]:
    for one in exposed(settings):
        say = about("exposure", one.subject)
        yield say("warning", "exposed", one.message, export(one.setting, one.better))
