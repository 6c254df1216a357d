"""Beginning a generation: claim it, give it its birth, ask for its walk.

Each step can be repeated and taken by anybody, so it does not matter who dies in between: consumers take them for
every generation that they find, and `neverstale rebuild` takes the first.
"""

import secrets

from neverstale.catalog import Resource
from neverstale.derived.contributions import buckets_for
from neverstale.derived.generations import Generation, Generations
from neverstale.derived.store import DerivedStore
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walk, Walks
from neverstale.role import telemetry

log = telemetry.logger(__name__)


async def begin(resource: Resource, store: DerivedStore, loader: Loader, identity: str) -> Generations:
    """Claim a generation as the resource declares it, unless somebody else just did.

    `identity`: of the Redis that the store is on.
    """
    declared = resource.derived.text
    buckets = buckets_for(await loader.count(resource.collection))
    new = Generation(secrets.token_hex(4), "claimed", identity, buckets, declared)
    await store.lay(new)

    def claim(known: Generations) -> Generations:
        here = known.on(identity)
        return here if here.next is not None and here.next.declared == declared else here.claim(new)

    known = await store.change(claim)
    if known.of(new.id) is None:
        await store.unlink(new.id)
    else:
        telemetry.GENERATIONS_BEGUN.labels(resource.name).inc()
        log.info("generation_begun", resource=resource.name, generation=new.id, buckets=buckets)
    return known


async def further(
    resource: Resource, store: DerivedStore, loader: Loader, walks: Walks, known: Generations
) -> Generations:
    """Take the next step of a generation that is not complete, if it needs one."""
    if known.next is not None and known.next.birth is None:
        # Asked only now that the claim is there to be read.
        birth, name = await loader.now(), known.next.id
        known = await store.change(lambda read: read.establish(name, birth))
    if known.next is not None and known.next.birth is not None:
        await walks.ask(Walk("rebuild", resource.name, resource.collection, known.next.id))
    return known
