"""Bodies are compressed once, beside the event loop if they are large."""

from hashlib import blake2b

import pytest

from neverstale.api.web.compression import (
    AT_ONCE_BYTES,
    COMPRESS,
    FROM_BYTES,
    MOST_UNDER_WAY,
    Coding,
    Compressed,
    Packed,
)
from neverstale.role.tasks import Tasks


def etag(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).hexdigest().encode()


@pytest.mark.parametrize("coding", COMPRESS)
async def test_a_body_is_compressed_once(coding: Coding) -> None:
    compressed, body = Compressed(Tasks()), b"word " * 1000
    first, again = (compressed.of(coding, etag(body), (body,)) for _ in range(2))
    assert first is not None and again is not None
    assert again.body is first.body
    assert first.coding == coding and len(first.body) < len(body) / 10


async def test_small_bodies_are_left_alone() -> None:
    assert Compressed(Tasks()).of(b"br", b"e", (b"x" * FROM_BYTES,)) is None


async def test_a_large_body_is_compressed_beside_the_event_loop() -> None:
    tasks = Tasks()
    compressed, body = Compressed(tasks), b"word " * AT_ONCE_BYTES
    assert compressed.of(b"gzip", etag(body), (body,)) is None
    await tasks.finish(10)
    assert compressed.of(b"gzip", etag(body), (body,)) == Packed(b"gzip", COMPRESS[b"gzip"](body))


async def test_bodies_that_wait_for_threads_are_few() -> None:
    tasks = Tasks()
    compressed = Compressed(tasks)
    for number in range(3 * MOST_UNDER_WAY):
        body = b"%02d" % number * AT_ONCE_BYTES
        assert compressed.of(b"gzip", etag(body), (body,)) is None
    assert len(compressed._under_way) == MOST_UNDER_WAY
    await tasks.finish(10)
