"""What concerns no list, counter or ranking costs no write, and is counted."""

from neverstale.catalog import Catalog
from neverstale.consumers.derived.derive import Deriver, ResourceDeriver
from neverstale.consumers.records.batch import Batch
from neverstale.derived.contributions import facts_of
from neverstale.derived.generations import Generation, Generations
from neverstale.derived.plan import Said
from neverstale.role import telemetry
from tests.unit.consumers.derived.test_derive_announces import FakeLoader, FakeStore, apply, holding

RESOURCE = Catalog.model_validate(
    {
        "database": "shop",
        "resources": {
            "things": {
                "key_type": "string",
                "fields": {"shelf": "string"},
                "lists": {"shelves": {"by": ["shelf"]}},
                "counters": {"by_shelf": {"by": ["shelf"], "sums": {"weights": {"field": "weight"}}}},
            }
        },
    }
).resources["things"]


def counted(outcome: str) -> float:
    return telemetry.REGISTRY.get_sample_value("neverstale_derived_total", {"outcome": outcome}) or 0.0


async def steps_for(*changed: str) -> list[str]:
    store = FakeStore()
    store.known = Generations((Generation("g1", "complete", "redis", 16, RESOURCE.derived.text, birth=1),))
    resource = ResourceDeriver(RESOURCE, store, FakeLoader("c"))  # type: ignore[arg-type]
    batch = Batch(told={("things", 0): {"s:k": [Said("update", 50, changed, None)]}})
    await Deriver([resource]).apply(batch, "redis")
    return [step for step in store.steps if step == "contribute"]


async def test_a_field_that_nothing_uses_is_skipped_and_counted() -> None:
    before = counted("no_concern")
    assert await steps_for("colour", "size.height") == []
    assert counted("no_concern") == before + 1


async def test_a_field_that_is_only_summed_is_no_such_field() -> None:
    before = counted("applied")
    assert await steps_for("weight") == ["contribute"]
    assert counted("applied") == before + 1


async def test_a_key_that_spells_no_id_is_no_documents_and_keeps_nothing_from_being_derived() -> None:
    store = holding("a", "g1")
    seen = [Said("update", 50, ("shelf",), {"shelf": "s:c"})]
    await apply(store, Batch(told={("things", 0): {"x:zz": seen, "i:": seen, "?": seen, "s:k": seen}}))
    assert facts_of(store.held["s:k"]) == ("s:c",)
    assert set(store.held) == {"s:k"}
