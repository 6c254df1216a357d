"""What a process holds for clients that have not read it yet."""

import pytest

from neverstale.api.web.problems import Problem
from neverstale.api.web.unread import Unread
from tests.support.connected import Connected, answering


def client(unread: Unread, unsent: int, stands_seconds: float) -> Connected:
    connected = Connected(answering(), unread=unread)
    connected.transport.unsent = unsent
    connected.protocol.pause_writing()
    connected.protocol._stands -= stands_seconds
    return connected


async def test_clients_that_take_nothing_make_room_for_others() -> None:
    unread = Unread(1000)
    slow, slower, quick = (client(unread, 300, seconds) for seconds in (2.0, 3.0, 0.0))
    unread.take([b"x" * 300])
    assert [one.transport.closed for one in (slow, slower, quick)] == [False, True, False]
    slow.protocol.resume_writing()
    quick.protocol.connection_lost(None)
    assert unread.bytes == 300


async def test_who_reads_keeps_its_place_and_the_next_large_answer_is_refused() -> None:
    unread = Unread(1000)
    quick = client(unread, 900, 5.0)
    quick.transport.unsent = 800  # it has read since
    with pytest.raises(Problem) as refused:
        unread.take([b"x" * 300])
    assert refused.value.status == 503
    assert not quick.transport.closed


async def test_what_a_client_holds_is_given_back_when_it_is_cut_off() -> None:
    unread = Unread(1000)
    slow = client(unread, 10, 5.0)
    holding = unread.hold(slow.protocol)
    holding.add([b"x" * 900])
    unread.take([b"y" * 900])
    assert slow.transport.closed
    assert unread.bytes == 900
    holding.end()
    assert unread.bytes == 900


async def test_a_body_is_counted_once_however_many_are_sent_it() -> None:
    unread, body = Unread(1000), b"x" * 600
    with unread.hold(None) as one, unread.hold(None) as other:
        one.add([body, body])
        other.add([body])
        assert unread.bytes == 600
    assert unread.bytes == 0


async def test_one_alone_always_finds_room() -> None:
    unread = Unread(1000)
    with unread.hold(None) as holding:
        holding.add([b"x" * 5000])
        with pytest.raises(Problem):
            unread.take([b"y"])
    assert unread.bytes == 0
