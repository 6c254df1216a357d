"""Dead letters, from a record that cannot be read to the operator who deals with it."""

import json
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from neverstale.kafka.dead_letters import Letter, topic_of
from neverstale.kafka.topic import ensure_topic
from neverstale.ops.dead_letters.dead_letters import HeldLetter, discard, listing, replay, shown
from neverstale.ops.dead_letters.report import print_done, print_letter, print_listing
from tests.support.waiting import eventually
from tests.worlds.consuming import Consuming, text
from tests.worlds.watching import Place, real_broker


async def letters(rig: Consuming) -> list[HeldLetter]:
    return (await listing(rig.settings, rig.catalog.database, 100)).letters


def offsets(held: list[HeldLetter]) -> list[int]:
    """Where the records of dead letters were."""
    return [each.letter.offset for each in held if each.letter is not None]


async def spoil(rig: Consuming, key: str, value: bytes) -> Any:
    """Publish a record about a document that cannot be read; answers where it is."""
    name = f"{rig.catalog.database}.quiet|{key}".encode()
    return await rig.producer.send_and_wait(rig.settings.kafka.topic, value, key=name, headers=[("trace", b"1")])


async def put(rig: Consuming, *given: Letter) -> None:
    """Dead letters without a consumer."""
    dead = topic_of(rig.settings.kafka)
    await ensure_topic(dead)
    for letter in given:
        await rig.producer.send_and_wait(
            dead.topic, letter.value, letter.key, partition=0, headers=letter.encode_headers()
        )


def letter(rig: Consuming, offset: int, **given: Any) -> Letter:
    fields: dict[str, Any] = {"key": b"k", "value": b"v"} | given
    return Letter("kind", "unknown", rig.settings.kafka.topic, 0, offset, 1_000, **fields)


async def test_what_cannot_be_read_is_a_dead_letter_before_it_is_committed_and_nothing_else_is(
    rig: Consuming,
) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("quiet", text(1), text(2))
        bad = await spoil(rig, text(1), b'{"f":99,"kind":"change"}')
        await rig.publish(await rig.write("quiet", text(2)))
        await eventually(rig.all_committed, "everything is committed")
        (held,) = await letters(rig)
        assert held.letter == Letter(
            "format",
            "record format 99 is not 1",
            bad.topic,
            bad.partition,
            bad.offset,
            bad.timestamp,
            f"{rig.catalog.database}.quiet|{text(1)}".encode(),
            b'{"f":99,"kind":"change"}',
            (("trace", b"1"),),
        )
        assert await rig.states("quiet", [text(1), text(2)]) == ["STALE", "STALE"]


async def test_while_kafka_refuses_a_dead_letter_nothing_is_committed(rig: Consuming, place: Place) -> None:
    admin = await real_broker(place)
    dead = topic_of(rig.settings.kafka).topic

    async def largest(size: int) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, dead, configs={"max.message.bytes": str(size)})
        await admin.alter_configs([resource])

    async with rig.consumer() as life:
        await rig.until_applied()
        await eventually(rig.all_committed, "everything is committed")
        await put(rig)
        await largest(1)
        before = await rig.committed()
        bad = await spoil(rig, text(1), b"{")

        async def refused() -> bool:
            return bool(life.health.parts.get("dead_letters"))

        await eventually(refused, "readyz says dead_letters")
        # Several commits later (the interval is 50 ms) the partition stands where it stood.
        for _ in range(3):
            assert (await rig.committed())[bad.partition] == before[bad.partition]
        await largest(1 << 20)
        await eventually(rig.all_committed, "everything is committed")
        assert offsets(await letters(rig)) == [bad.offset]
        assert life.health.ready
    await admin.close()


async def test_a_version_of_the_far_future_is_a_dead_letter_and_keeps_nobody_from_reading(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        await rig.fill("quiet", text(1))
        change = await rig.change("quiet", text(1))
        now = change.version
        far = type(change)("update", change.database, "quiet", text(1), now + (3600 << 32), 1000, None)
        await rig.publish(far)
        await eventually(rig.all_committed, "everything is committed")
        assert [held.letter.reason for held in await letters(rig) if held.letter] == ["version"]
        assert await rig.states("quiet", [text(1)]) == ["STALE"]
        applied = await rig.redis.get(rig.cache.names.applied) or b"0"
        assert now <= int(applied, 16) <= now + (60 << 32)


async def test_a_replayed_record_goes_where_it_was_and_is_settled_and_may_come_back(rig: Consuming) -> None:
    async with rig.consumer():
        await rig.until_applied()
        bad = await spoil(rig, text(1), b"{")
        await eventually(rig.all_committed, "everything is committed")
        (held,) = await letters(rig)
        done = await replay(rig.settings, rig.catalog.database, [held.id])
        assert (done.ids, done.refused) == ([held.id], {})
        await eventually(rig.all_committed, "the replayed record is committed")
        (again,) = await letters(rig)
        assert held.letter is not None and again.letter is not None
        assert (again.letter.partition, again.letter.key, again.letter.value, again.letter.headers) == (
            bad.partition,
            held.letter.key,
            b"{",
            (("trace", b"1"),),
        )
        assert again.letter.offset > bad.offset


async def test_discarded_ones_are_listed_no_more_but_can_still_be_shown(rig: Consuming) -> None:
    await put(rig, *[letter(rig, number) for number in range(5)])
    first, second, *_ = await letters(rig)
    assert (await discard(rig.settings, rig.catalog.database, [second.id])).ids == [second.id]
    assert offsets(await letters(rig)) == [0, 2, 3, 4]
    assert len((await discard(rig.settings, rig.catalog.database, None)).ids) == 4
    assert await letters(rig) == []
    assert await shown(rig.settings, first.id) == first
    await put(rig, letter(rig, 9))
    assert offsets(await letters(rig)) == [9]


async def test_all_are_replayed_but_those_that_cannot_be(rig: Consuming) -> None:
    elsewhere = Letter("kind", "unknown", "never-there", 0, 2, 1_000, b"k", b"v")
    await put(rig, letter(rig, 1), elsewhere, letter(rig, 3, bytes_cut=1 << 20), letter(rig, 4, key=None))
    await rig.producer.send_and_wait(topic_of(rig.settings.kafka).topic, b"not ours", partition=0)
    done = await replay(rig.settings, rig.catalog.database, None)
    left = await letters(rig)
    assert offsets(left) == [2, 3] and len(left) == 3
    assert len(done.ids) == 2 and set(done.refused) == {held.id for held in left}
    assert sum((await rig.ends()).values()) == 2


async def test_there_is_nothing_before_there_is_a_topic(rig: Consuming) -> None:
    assert await letters(rig) == []
    assert await shown(rig.settings, 0) is None
    done = await discard(rig.settings, rig.catalog.database, [3])
    assert done.refused == {3: f"{rig.settings.kafka.topic}.dead holds no dead letter 3"}


async def test_a_listing_says_that_there_are_more(rig: Consuming, capsys: pytest.CaptureFixture[str]) -> None:
    await put(rig, letter(rig, 1, value=b"\x00\xff"), letter(rig, 2))
    found = await listing(rig.settings, rig.catalog.database, 1)
    print_listing(found, as_json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["more"], [one["reason"] for one in answer["letters"]]) == (True, ["kind"])
    print_listing(found, as_json=False)
    assert f"{rig.settings.kafka.topic}/0/1" in capsys.readouterr().out
    print_letter(found.letters[0], as_json=False)
    assert "00 ff" in capsys.readouterr().out
    print_letter(found.letters[0], as_json=True)
    assert json.loads(capsys.readouterr().out)["value_hex"] == "00ff"
    print_done("replayed", await replay(rig.settings, rig.catalog.database, None), as_json=False)
    assert "replayed 2 dead letters" in capsys.readouterr().out
