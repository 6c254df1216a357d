"""Consumers on real servers: what changes do to entries, and what committed offsets and watermarks promise."""

from neverstale.kafka.events import Floor, Mark
from neverstale.role import telemetry
from neverstale.settings import Settings
from neverstale.versions import Version
from tests.support.waiting import eventually
from tests.worlds.consuming import PARTITIONS, Consuming, text


def counted(metric: str, **labels: str) -> float:
    return telemetry.REGISTRY.get_sample_value(f"neverstale_{metric}_total", labels) or 0.0


async def test_a_change_makes_a_present_entry_stale_and_a_missing_one_stays_missing(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("quiet", text(1))
        await rig.publish(await rig.write("quiet", text(1)), await rig.write("quiet", text(2)))
        await rig.until_applied()
        assert await rig.states("quiet", [text(1), text(2)]) == ["STALE", None]
        assert await rig.redis.exists(rig.key("quiet", text(2))) == 0


async def test_the_newest_of_several_changes_is_what_a_fill_must_reach(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("quiet", text(1))
        changes = [await rig.write("quiet", text(1), number) for number in range(3)]
        await rig.publish(changes[2], changes[0], changes[1])
        await rig.until_applied()
        entry = await rig.entry("quiet", text(1))
    assert entry is not None
    assert entry.version == changes[2].version


async def test_a_resource_that_refreshes_is_fresh_again_without_a_reader(rig: Consuming) -> None:
    await rig.write("eager", text(1), 1)
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("eager", text(1))
        change = await rig.write("eager", text(1), 2)
        await rig.publish(change)
        await until_fresh(rig, "eager", text(1), change.version)
        entry = await rig.entry("eager", text(1))
    assert entry is not None
    assert entry.body == b'{"_id":"key-1","number":2}'


async def test_a_deleted_document_is_refreshed_to_its_absence(rig: Consuming) -> None:
    await rig.write("eager", text(1))
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("eager", text(1))
        await rig.mongo[rig.catalog.database]["eager"].delete_one({"_id": "key-1"})
        change = await rig.change("eager", text(1))
        await rig.publish(change)
        await until_fresh(rig, "eager", text(1), change.version)
        assert await rig.states("eager", [text(1)]) == ["ABSENT"]


async def test_only_what_was_read_since_its_last_fill_is_refreshed_by_default(rig: Consuming) -> None:
    await rig.write("clever", text(3))  # of a collection that did not exist a moment ago nothing is refreshed
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("clever", text(1), text(2))
        await rig.cache.touch([rig.key("clever", text(1))])
        changes = [await rig.write("clever", key) for key in (text(1), text(2))]
        await rig.publish(*changes)
        await rig.until_applied()
        await until_fresh(rig, "clever", text(1), changes[0].version)
        assert await rig.states("clever", [text(2)]) == ["STALE"]


async def test_a_floor_voids_what_was_read_before_it(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        for resource in ("quiet", "eager"):
            await rig.until_known(resource)  # what is unknown, as all is at first, becomes the present's later on
        read = await rig.fill("quiet", text(1))
        floor = await rig.loader.now()
        await rig.publish(Floor(rig.catalog.database, "quiet", floor, "drop"))
        await rig.until_applied()
        assert await rig.floor("quiet") == floor > read
        assert (await rig.floor("eager") or 0) < floor


async def test_applying_a_whole_partition_again_changes_nothing(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("quiet", text(1), text(2), text(3))
        await rig.publish(*[await rig.write("quiet", text(number)) for number in (1, 2)])
        await rig.until_applied()
        await rig.fill("quiet", text(2))  # filled anew behind its change
    before = await rig.cache.read_raw("quiet", [rig.key("quiet", text(number)) for number in (1, 2, 3)])
    await rig.rewind()
    again = counted("records_applied", kind="change")
    async with rig.consumer():
        await rig.until_applied()
    assert counted("records_applied", kind="change") == again + 2
    assert await rig.cache.read_raw("quiet", [rig.key("quiet", text(number)) for number in (1, 2, 3)]) == before
    assert await rig.states("quiet", [text(1), text(2), text(3)]) == ["STALE", "DATA", "ABSENT"]


async def test_records_of_others_are_skipped_and_counted(rig: Consuming) -> None:
    before = counted("records_skipped", reason="collection"), counted("records_skipped", reason="key_type")
    stranger = await rig.change("strangers", text(1))
    async with rig.consumer():
        await rig.publish(stranger, await rig.change("numbers", text(1)))
        await rig.until_applied()
    after = counted("records_skipped", reason="collection"), counted("records_skipped", reason="key_type")
    assert after == (before[0] + 1, before[1] + 1)


async def test_an_unreadable_record_voids_everything_and_the_rest_is_applied(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        read = await rig.fill("quiet", text(1), text(2))
        await rig.publish(b"\x00 no record of ours", await rig.write("quiet", text(2)))
        await rig.until_applied()
        await rig.until_known("quiet", above=read)
        await rig.until_known("eager", above=read)
        assert await rig.states("quiet", [text(2)]) == ["STALE"]


async def test_of_an_unreadable_record_only_the_document_that_its_key_names_is_stale(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.until_known("quiet")
        await rig.until_known("eager")
        await rig.fill("quiet", text(1), text(2))
        floors = await rig.floor("quiet"), await rig.floor("eager")
        key = f"{rig.catalog.database}.quiet|{text(1)}".encode()
        await rig.producer.send_and_wait(rig.settings.kafka.topic, b'{"f":2,"kind":"change"}', key=key)
        await rig.until_applied()
        assert await rig.states("quiet", [text(1), text(2)]) == ["STALE", "ABSENT"]
        assert (await rig.floor("quiet"), await rig.floor("eager")) == floors


async def test_watermarks_say_what_the_last_marks_said(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        last = Mark(await rig.loader.now(), 123_456, PARTITIONS, 1)
        await rig.publish(last, Mark(last.version + 1, 999_999, PARTITIONS, 0))  # the second is of a deposed watcher

        async def written() -> bool:
            held = await rig.watermarks()
            return {mark.version for mark in held.values()} == {last.version}

        await eventually(written, "the watermarks are those of the last marks")
        await eventually(rig.all_committed, "everything is committed")
        assert {(mark.version, mark.wall_ms) for mark in (await rig.watermarks()).values()} == {
            (last.version, 123_456)
        }


async def test_a_drained_consumer_leaves_nothing_to_do_again(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        changes = [await rig.change("quiet", text(number)) for number in range(20)]
        await rig.publish(*changes)
        await rig.until_applied()
    assert await rig.all_committed()


async def test_what_is_left_of_a_log_is_read_from_its_beginning_and_all_before_is_void(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        read = await rig.fill("quiet", text(1), text(2))
    await rig.rewind(offset=10_000_000)  # out of range, as after a loss of the log's end
    await rig.publish(await rig.change("quiet", text(2)))
    lost = counted("offsets_lost")
    async with rig.consumer():
        await rig.until_applied()
        await rig.until_known("quiet", above=read)
        await rig.until_known("eager", above=read)
        assert await rig.states("quiet", [text(2)]) == ["STALE"]
    assert counted("offsets_lost") == lost + PARTITIONS
    assert max((await rig.committed()).values()) < 10_000_000


async def test_without_mongodb_invalidations_go_on_and_what_is_void_stays_so(
    rig: Consuming, settings: Settings
) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("quiet", text(1))
    await rig.redis.delete(rig.cache.names.reached(settings.kafka.group))
    nowhere = settings.mongodb.model_copy(
        update={"uri": type(settings.mongodb.uri)("mongodb://127.0.0.1:9/"), "server_selection_timeout_ms": 100}
    )
    async with rig.consumer(settings.model_copy(update={"mongodb": nowhere})) as life:
        await rig.publish(await rig.change("quiet", text(1)), await rig.mark())
        await eventually(lambda: stale(rig, "quiet", text(1)), "the entry is stale")
        await eventually(lambda: true(bool(life.health.parts["mongodb"])), "readyz says mongodb")
        await eventually(rig.all_committed, "everything is committed")
        await eventually(lambda: no_floor(rig, "quiet"), "the resource is void")


async def test_the_queue_between_two_polls_holds_no_more_than_a_batch(rig: Consuming, settings: Settings) -> None:
    small = settings.model_copy(update={"consumer": settings.consumer.model_copy(update={"max_batch": 3})})
    keys = [text(number) for number in range(30)]
    async with rig.consumer(small):
        await rig.until_applied()
        await rig.fill("quiet", *keys)
        await rig.publish(*[await rig.change("quiet", key) for key in keys])
        await rig.until_applied()
    assert set(await rig.states("quiet", keys)) == {"STALE"}


async def no_floor(rig: Consuming, resource: str) -> bool:
    return await rig.floor(resource) is None


async def stale(rig: Consuming, resource: str, key: str) -> bool:
    return await rig.states(resource, [key]) == ["STALE"]


async def until_fresh(rig: Consuming, resource: str, key: str, version: Version) -> None:
    async def fresh() -> bool:
        entry = await rig.entry(resource, key)
        return entry is not None and entry.fresh and entry.version >= version

    await eventually(fresh, "the entry is fresh again")


async def true(condition: bool) -> bool:
    return condition
