"""Peers: whose process has ended, and what is no evidence of it."""

import asyncio
import socket
from typing import Any

import orjson
import pytest

from neverstale.consumers.group import peers
from neverstale.consumers.group.peers import next_ones, reachable, where
from tests.support.waiting import eventually

HERE = socket.gethostname()


class Peer:
    """A process that answers at a port of its own."""

    def __init__(self) -> None:
        self.held: list[asyncio.StreamWriter] = []
        self.ended = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(lambda _, writer: self.held.append(writer), "127.0.0.1", 0)
        self.address = self.server.sockets[0].getsockname()[:2]
        self.line = asyncio.create_task(peers._hold(self.address, self._ended))

    async def watched(self) -> None:
        await eventually(self._is_watched, "there is a connection")

    async def _is_watched(self) -> bool:
        return bool(self.held)

    def drop(self) -> None:
        """Close what was opened."""
        for writer in self.held:
            writer.transport.abort()
        self.held.clear()

    async def _ended(self) -> None:
        self.ended += 1


@pytest.fixture
async def peer() -> Any:
    made = Peer()
    await made.start()
    yield made
    made.line.cancel()
    made.drop()
    made.server.close()


async def test_who_closes_all_and_refuses_has_ended(peer: Peer) -> None:
    await peer.watched()
    peer.server.close()
    peer.drop()
    async with asyncio.timeout(10):
        await peer.line
    assert peer.ended == 1


async def test_who_only_closes_connections_is_still_there(peer: Peer) -> None:
    for _ in range(3):
        await peer.watched()
        peer.drop()
    await peer.watched()
    assert peer.ended == 0 and not peer.line.done()


async def test_who_was_never_reached_is_not_known_to_have_ended(peer: Peer) -> None:
    peer.line.cancel()
    peer.server.close()
    async with asyncio.timeout(10):
        await peers._hold(peer.address, peer._ended)
    assert peer.ended == 0


def test_each_watches_the_next_ones_of_the_others() -> None:
    members = {name: ["h", 80, HERE] for name in "abcdef"}
    assert list(next_ones(members, "b")) == ["c", "d", "e"]
    assert list(next_ones(members, "e")) == ["f", "a", "b"]
    assert list(next_ones({"a": None, "b": ["h", 80, HERE]}, "a")) == ["b"]
    assert next_ones({"a": ["h", 80, HERE]}, "a") == {}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        (["10.0.0.1", 80, "other"], ("10.0.0.1", 80)),
        (["127.0.0.1", 80, HERE], ("127.0.0.1", 80)),
        (["127.0.0.1", 80, "other"], None),
        (["localhost", 80, "other"], None),
        (["::1", 80, "other"], None),
        (["", 80, HERE], None),
        (["h", 0, HERE], None),
        (["h", 99999, HERE], None),
        (["h", "80", HERE], None),
        (["h"], None),
        (None, None),
        ("h", None),
        ({}, None),
    ],
)
def test_an_address_is_believed_if_it_can_be_meant_for_us(told: object, found: object) -> None:
    assert reachable(told) == found


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://10.0.0.1:9100", ["10.0.0.1", 9100, HERE]),
        ("http://[::1]:9100", ["::1", 9100, HERE]),
        ("http://0.0.0.0:9100", None),
        ("", None),
    ],
)
def test_a_member_says_where_it_answers(url: str, told: object) -> None:
    assert orjson.loads(where(None, url) or b"null") == told


@pytest.mark.parametrize("told", [b"", b"{", b"[]", b"null", b'{"b":1}'])
def test_what_is_no_list_of_members_names_nobody(told: bytes) -> None:
    some = peers.Peers()
    some.meet(told, "a")
    assert some._addresses == {}
