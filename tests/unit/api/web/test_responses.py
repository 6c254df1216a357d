"""What a caller is given of a document that is there: whole, compressed, or that he has it already."""

from itertools import product

import pytest

from neverstale.api.web.compression import COMPRESS, Coding, Compressed
from neverstale.api.web.headers import document_tail, packed_tail, unchanged_tail
from neverstale.api.web.preconditions import NO_CONDITIONS, Conditions, Tags
from neverstale.api.web.problems import Problem
from neverstale.api.web.responses import shortened
from neverstale.redis.entries import etag_of
from neverstale.role.tasks import Tasks

SMALL, LARGER = b'{"a":1}', b'{"a":"%b"}' % (b"x" * 3000)
VERSION = b"0000000700000001"


def has(*etags: bytes) -> Conditions:
    return Conditions(none_match=Tags(frozenset(etags), frozenset(etags)))


@pytest.mark.parametrize(("body", "coding"), list(product((SMALL, LARGER), (None, b"gzip", b"br"))))
async def test_who_has_the_document_is_told_so_and_others_are_given_it(body: bytes, coding: Coding | None) -> None:
    compressed, etag = Compressed(Tasks()), etag_of(body)
    packed = compressed.of(coding, etag, (body,))
    assert (packed is not None) == (coding is not None and body is LARGER)
    for conditions in (NO_CONDITIONS, has(b"another"), Conditions(match=Tags(any=True))):
        given = shortened(compressed, coding, conditions, etag, VERSION, (body,))
        assert given == (None if packed is None else (200, packed_tail(etag, VERSION, packed)))
    for conditions in (has(etag), has(b"another", etag), Conditions(none_match=Tags(any=True))):
        given = shortened(compressed, coding, conditions, etag, VERSION, (body,))
        assert given == (304, unchanged_tail(etag, VERSION, weak=packed is not None))


async def test_who_expects_another_document_is_refused() -> None:
    with pytest.raises(Problem) as refused:
        shortened(Compressed(Tasks()), None, Conditions(match=Tags()), etag_of(SMALL), VERSION, (SMALL,))
    assert refused.value.status == 412


async def test_a_tail_says_all_that_a_whole_document_is_told_with() -> None:
    etag = etag_of(SMALL)
    assert document_tail(etag, VERSION, SMALL).startswith(unchanged_tail(etag, VERSION)[:-2])


@pytest.mark.parametrize("coding", COMPRESS)
async def test_parts_are_compressed_as_the_whole_body_is(coding: Coding) -> None:
    etag = etag_of(LARGER)
    whole = shortened(Compressed(Tasks()), coding, NO_CONDITIONS, etag, VERSION, (LARGER,))
    parts = shortened(Compressed(Tasks()), coding, NO_CONDITIONS, etag, VERSION, (LARGER[:10], LARGER[10:]))
    assert whole == parts
