"""`neverstale warm`: read first pages and the most read documents into the cache, through the API's own reader.

It runs beside the APIs, at a rate of its own; whatever they hold already is a hit.
"""

from dataclasses import asdict, dataclass

from pydantic import ValidationError

from neverstale.api.app import create_app
from neverstale.api.state import STATE, State
from neverstale.api.warm import Warmed
from neverstale.catalog import Catalog, Resource, Warm
from neverstale.errors import Misconfigured
from neverstale.ops.repair.named import resource_named
from neverstale.ops.terminal.output import print_json
from neverstale.ops.terminal.progress import Shown
from neverstale.settings import Settings


@dataclass(frozen=True, slots=True)
class WarmWanted:
    """From the command line; without a list and a number the catalog's `warm` counts."""

    resource: str
    source: str = ""
    pages: int = 1
    most_read: int = 0
    rate: float = 0
    """Reads a second; 0: as the settings say."""


async def warm(settings: Settings, catalog: Catalog, wanted: WarmWanted, *, quiet: bool = False) -> Warmed:
    """Raises `Misconfigured`, and `Outage` when a server stays away."""
    resource = resource_named(catalog, wanted.resource, settings.catalog)
    what = _what(resource, wanted)
    # L1 is of no use to a process that ends, and what the catalog warms is not what was asked for.
    api = settings.api.model_copy(update={"l1_bytes": 0})
    plain = {name: one.model_copy(update={"warm": None}) for name, one in catalog.resources.items()}
    app = create_app(settings.model_copy(update={"api": api}), catalog.model_copy(update={"resources": plain}))
    async with app.router.lifespan_context(app) as opened:
        assert opened is not None
        state: State = opened[STATE]
        with Shown(f"warming {resource.name}", quiet=quiet) as shown:
            return await state.warmer.warm(
                plain[resource.name],
                what,
                wanted.rate or settings.api.warm_reads_per_second,
                lambda _, done, total: shown.show("reads", done, total),
            )


def _what(resource: Resource, wanted: WarmWanted) -> Warm:
    if not wanted.source and not wanted.most_read:
        if resource.warm is None:
            remedy = "declare warm in the catalog, or use --from lists.NAME or --most-read N"
            raise Misconfigured(resource.name, "nothing says what to read", remedy)
        return resource.warm
    asked = {"from": wanted.source, "pages": wanted.pages, "most_read": wanted.most_read}
    try:
        checked = Resource.model_validate({**resource.model_dump(exclude={"warm"}), "warm": asked})
    except ValidationError as error:
        problem, _, remedy = str(error.errors()[0]["msg"]).partition("; ")
        raise Misconfigured("--from", problem, remedy) from None
    assert checked.warm is not None
    return checked.warm


def print_warmed(warmed: Warmed, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(warmed))
        return
    print(f"{warmed.pages} pages and {warmed.documents} documents were read; {warmed.hits} were cached before")
    if warmed.past:
        print(f"{warmed.past} were not taken by the cache: neverstale status  # says why")
