"""What many clients have sent together, and nobody has answered yet, has a limit."""

import pytest

from neverstale.api.server.heard import Heard
from tests.support.connected import Connected, answering

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 20_000
WAITING = GET + HALF * 2
LARGE = HALF + b"\r\n\r\n"


@pytest.mark.parametrize("sent", [HALF, WAITING, LARGE], ids=["half a head", "behind a request", "a large head"])
async def test_when_clients_have_sent_too_much_together_the_first_ones_are_cut_off(sent: bytes) -> None:
    heard = Heard(100_000)
    attackers = [Connected(answering(), heard=heard) for _ in range(20)]
    for one in attackers:
        one.protocol.data_received(sent)
        assert heard.bytes <= heard.limit
    cut = [one.transport.closed for one in attackers]
    assert cut == sorted(cut, reverse=True)  # the first ones
    assert 1 < cut.count(False) < 6
    other = Connected(answering(), heard=heard)
    assert (await other.exchange(GET)).startswith(b"HTTP/1.1 200 ")
    for one in attackers:
        one.protocol.connection_lost(None)
    await other.run()
    assert heard.bytes == 0


async def test_what_is_answered_and_small_is_not_counted() -> None:
    heard = Heard(1)
    connected = Connected(answering(), heard=heard)
    for parts in (
        [GET],
        [GET * 5],
        [GET[:10], GET[10:]],
        [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", b"abc"],
    ):
        await connected.exchange(*parts)
        assert heard.bytes == 0
    assert not connected.transport.closed


async def test_a_client_that_is_alone_is_never_cut_off_for_what_it_sent() -> None:
    heard = Heard(1)
    connected = Connected(answering(), heard=heard)
    connected.protocol.data_received(HALF)
    assert heard.bytes == len(HALF)
    assert (await connected.exchange(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
