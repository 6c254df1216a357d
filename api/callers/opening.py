"""The gate of one process, and what keeps its keys as files and identity provider have them."""

from neverstale.api.callers.access import Access
from neverstale.api.callers.addresses import Addresses
from neverstale.api.callers.cross_origin import CrossOrigin
from neverstale.api.callers.fresh_keys import FreshKeys
from neverstale.api.callers.gate import Gate
from neverstale.api.callers.identify import Callers
from neverstale.api.callers.openness import say_openness
from neverstale.catalog import Catalog
from neverstale.role.tasks import Tasks
from neverstale.settings import Settings


def gate_of(settings: Settings, catalog: Catalog, tasks: Tasks) -> tuple[Gate, FreshKeys]:
    """Opens it, and says what is open to everybody. Raises `Misconfigured` if keys cannot be read."""
    callers = Callers(settings.callers)
    access = Access(settings.callers, catalog.resources)
    gate = Gate(access, callers, Addresses(settings.limits), CrossOrigin(settings.cors))
    fresh_keys = FreshKeys(settings.callers, callers, tasks)
    fresh_keys.begin()
    say_openness(settings.callers, catalog)
    return gate, fresh_keys
