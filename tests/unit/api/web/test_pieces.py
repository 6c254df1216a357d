"""Large answers go out in pieces."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.state import STATE
from neverstale.api.web.pieces import LARGE_BYTES, PIECE_BYTES, pieces
from neverstale.api.web.responses import ReadyResponse
from neverstale.api.web.unread import Unread
from tests.support.connected import Connected
from tests.support.opened import opened

SIZES = st.one_of(
    st.integers(0, 300), st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@given(st.lists(SIZES, max_size=20), st.integers(0, 400))
def test_pieces_are_the_same_bytes_and_none_is_too_long(sizes: list[int], skip: int) -> None:
    parts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    if not parts or skip > len(parts[0]):
        skip = 0
    found = list(pieces(parts, skip))
    assert b"".join(found) == b"".join(parts)[skip:]
    assert all(len(piece) <= PIECE_BYTES for piece in found)
    assert len(found) <= 2 * (sum(sizes) // PIECE_BYTES) + len(parts) + 1


def response(size: int) -> ReadyResponse:
    body = bytes(size)
    return ReadyResponse(200, [(b"content-length", b"%d" % size)], body)


@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES, LARGE_BYTES + 1, 10 * PIECE_BYTES + 7])
async def test_an_answer_of_any_size_arrives_whole(size: int) -> None:
    answer = await Connected(response(size)).exchange(GET)
    assert answer.partition(b"\r\n\r\n")[2] == bytes(size)


async def test_others_have_their_turn_after_each_piece() -> None:
    connected = Connected(response(20 * PIECE_BYTES))
    connected.protocol.data_received(GET)
    turns = 0
    while connected.state.tasks:
        before = len(connected.transport.buffer)
        await asyncio.sleep(0)
        turns += 1
        assert len(connected.transport.buffer) - before <= PIECE_BYTES + 1000
    assert turns >= 20


async def test_a_client_that_reads_nothing_is_sent_no_more_than_its_buffer_holds() -> None:
    unread = Unread(1 << 30)
    connected = Connected(response(100 * PIECE_BYTES), unread=unread)
    connected.protocol.data_received(GET)
    while len(connected.transport.buffer) < PIECE_BYTES:  # noqa: ASYNC110
        await asyncio.sleep(0)
    connected.transport.unsent = PIECE_BYTES
    connected.protocol.pause_writing()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(connected.transport.buffer) <= 3 * PIECE_BYTES
    assert unread.bytes == 101 * PIECE_BYTES
    connected.protocol.connection_lost(None)
    await connected.run()
    assert unread.bytes == 0


async def test_where_there_is_no_room_a_large_answer_is_a_503() -> None:
    unread = Unread(10 * PIECE_BYTES)
    unread.take([bytes(10 * PIECE_BYTES)])
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "state": {STATE: opened(unread=unread)}}
    await response(2 * PIECE_BYTES)(scope, None, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 503
    await response(LARGE_BYTES)(scope, None, send)  # type: ignore[arg-type]
    assert sent[2]["status"] == 200
