"""L1 keeps what was vouched for, within its bytes, and nothing that an announcement has spoken of."""

import re
from hashlib import blake2b
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.hits.hearing import BrokenSubscription, Hearing
from api.hits.request_lines import LINE, spellings, targets
from api.reads.l1 import L1
from api.reads.recently_used import OVERHEAD, Recent
from api.web.compression import AT_ONCE_BYTES, COMPRESS, FROM_BYTES, MOST_UNDER_WAY, Coding, Compressed, Packed
from api.web.plain_requests import PLAIN, Plain, plain_of
from api.web.preconditions import Tags
from neverstale.catalog import Catalog
from neverstale.keys import Names, canonical
from neverstale.redis.announcements import AnnouncedMarks, Announcement, Announcer, Unreadable, decode, group_name
from neverstale.role.damage import Damage
from neverstale.role.tasks import Tasks

KEY, LINE_OF_KEY = b"ns:things:d:s:a", b"GET /v1/things/a HTTP/1.1"
TARGETS = targets(
    Catalog.model_validate(
        {
            "database": "shop",
            "resources": {kind: {"key_type": kind} for kind in ("string", "int", "objectid", "uuid")},
        }
    ),
    Names("ns"),
)


def l1(limit: int = 1 << 20) -> L1:
    kept = L1(limit, 3600)
    kept.vouch(5)
    return kept


def keep(kept: L1, key: bytes = KEY, line: bytes = LINE_OF_KEY, tail: bytes = b"e") -> None:
    reading = kept.begin({key})
    kept.keep(reading, key, line, tail)
    kept.end(reading)


# --- placeholders


def test_what_was_read_is_kept() -> None:
    kept = l1()
    keep(kept)
    assert kept.answers.get(LINE_OF_KEY) == b"e"


def test_nothing_is_kept_before_it_is_vouched_for() -> None:
    kept = L1(1 << 20, 3600)
    keep(kept)
    assert kept.answers.get(LINE_OF_KEY) is None


def test_an_announcement_between_read_and_keep_spoils_that_key_only() -> None:
    kept = l1()
    reading = kept.begin({KEY, b"other"})
    kept.changed(KEY, [LINE_OF_KEY])
    kept.keep(reading, KEY, LINE_OF_KEY, b"e")
    kept.keep(reading, b"other", b"GET other", b"e")
    assert (kept.answers.get(LINE_OF_KEY), kept.answers.get(b"GET other")) == (None, b"e")


@pytest.mark.parametrize("what", ["clear", "void"])
def test_a_floor_or_a_voiding_spoils_every_reading(what: str) -> None:
    kept = l1()
    reading = kept.begin({KEY})
    getattr(kept, what)()
    kept.vouch(6)
    kept.keep(reading, KEY, LINE_OF_KEY, b"e")
    assert kept.answers.get(LINE_OF_KEY) is None


PAGE, GROUP = b"GET /v1/things/-/lists/all HTTP/1.1", b"things|all|1f2e"


def keep_page(kept: L1, group: bytes = GROUP, line: bytes = PAGE) -> None:
    reading = kept.begin({group})
    kept.keep_page(reading, group, line, b"e")
    kept.end(reading)


@pytest.mark.parametrize(
    ("announced", "stays"),
    [
        ("things|all|1f2e", False),
        ("things|all|*", False),
        ("things|*|*", False),
        ("things|all|1f2f", True),
        ("things|al|*", True),
        ("other|*|*", True),
    ],
)
def test_a_page_stays_until_its_group_is_announced(announced: str, stays: bool) -> None:
    kept = l1()
    keep_page(kept)
    tell(kept, announced)
    assert (kept.answers.get(PAGE) is not None) == stays


@pytest.mark.parametrize("announced", ["things|all|1f2e", "things|all|*", "things|*|*"])
def test_a_group_announced_between_read_and_keep_spoils_its_page_only(announced: str) -> None:
    kept = l1()
    reading = kept.begin({GROUP, b"others|all|1f2e"})
    tell(kept, announced)
    kept.keep_page(reading, GROUP, PAGE, b"e")
    kept.keep_page(reading, b"others|all|1f2e", b"GET other", b"e")
    assert (kept.answers.get(PAGE), kept.answers.get(b"GET other")) == (None, b"e")


def test_all_lines_of_a_group_go_together() -> None:
    kept = l1()
    lines = [b"GET %d" % number for number in range(5)]
    for line in lines:
        keep_page(kept, line=line)
    kept.changed_group(GROUP)
    assert [line for line in lines if kept.answers.get(line)] == []


def test_pages_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.reads.l1.MOST_PAGES", 10)
    kept = l1()
    for number in range(25):
        keep_page(kept, b"things|all|%04x" % number, b"GET %d" % number)
    assert len(kept.answers) == 5
    kept.changed_groups(b"things|")
    assert len(kept.answers) == 0


def tell(kept: L1, group: str) -> None:
    """As the channel hands it on."""
    beginning, every, _ = group.partition("*")
    if every:
        kept.changed_groups(beginning.encode())
    else:
        kept.changed_group(group.encode())


def test_groups_are_announced_by_name() -> None:
    names = [group_name("things", "all", b"1f2e"), group_name("things", "all"), group_name("things")]
    assert names == ["things|all|1f2e", "things|all|*", "things|*|*"]
    assert decode(Announcer().groups(names)).groups == names


def test_a_reading_that_ended_keeps_nothing() -> None:
    kept = l1()
    reading = kept.begin({KEY})
    kept.end(reading)
    kept.keep(reading, KEY, LINE_OF_KEY, b"e")
    assert kept.answers.get(LINE_OF_KEY) is None


def test_an_announcement_drops_every_spelling() -> None:
    kept = l1()
    lines = list(spellings("things", "s:(a) b:c"))
    for line in lines:
        keep(kept, b"k", line)
    kept.changed(b"k", lines)
    assert len(lines) == 3
    assert len(kept.answers) == 0


def test_nothing_stays_longer_than_its_life() -> None:
    now = [0.0]
    kept = L1(1 << 20, 10, clock=lambda: now[0])
    kept.vouch(5)
    keep(kept)
    now[0] = 9.9
    kept.vouch(6)
    assert kept.answers.get(LINE_OF_KEY) == b"e"
    now[0] = 10.0
    kept.vouch(7)
    assert kept.answers.get(LINE_OF_KEY) is None


# --- bytes


def test_a_limit_of_zero_keeps_nothing() -> None:
    kept = l1(0)
    keep(kept)
    assert kept.answers.get(LINE_OF_KEY) is None


@given(st.lists(st.tuples(st.sampled_from("gpd"), st.integers(0, 30), st.integers(0, 400)), max_size=200))
def test_what_is_recent_never_exceeds_its_bytes_and_never_lies(steps: list[tuple[str, int, int]]) -> None:
    recent, truth = Recent(5000), dict[bytes, bytes]()
    for step, number, size in steps:
        key = b"%d" % number
        if step == "p":
            truth[key] = b"%d" % number + b"x" * size
            recent.put(key, truth[key])
        elif step == "d":
            truth.pop(key, None)
            recent.drop(key)
        else:
            assert recent.get(key) in (None, truth.get(key))
        held = recent._young | recent._old
        assert sum(len(key) + len(value) + OVERHEAD for key, value in held.items()) <= 5000


def test_what_is_used_outlives_what_is_not() -> None:
    recent = Recent(40 * (OVERHEAD + 12))
    recent.put(b"hot", b"x" * 8)
    for number in range(500):
        recent.put(b"%04d" % number, b"x" * 8)
        assert recent.get(b"hot") is not None
    assert recent.get(b"0000") is None


# --- what is heard


def hearing() -> Hearing:
    return Hearing("redis-1", lambda version, wall_ms: None, Damage())


def marks(version: int, *partitions: int, identity: str = "redis-1", count: int = 2) -> AnnouncedMarks:
    return AnnouncedMarks(identity, count, dict.fromkeys(partitions, (version, 1000)))


def test_the_watermark_is_the_lowest_once_all_partitions_were_heard() -> None:
    heard = hearing()
    heard.mark("p", marks(9, 0))
    assert heard.watermark == 0
    heard.mark("q", marks(7, 1))
    assert heard.watermark == 7


def test_a_mark_of_the_past_lowers_nothing() -> None:
    heard = hearing()
    heard.mark("p", marks(9, 0, 1))
    heard.mark("p", marks(5, 0, 1))
    assert heard.watermark == 9


def test_a_missing_number_breaks_the_hearing() -> None:
    heard = hearing()
    heard.follows(Announcement("p", 5))
    with pytest.raises(BrokenSubscription):
        heard.follows(Announcement("p", 7))


def test_publishers_count_for_themselves_and_may_repeat() -> None:
    heard = hearing()
    for publisher, number in (("p", 5), ("q", 1), ("p", 6), ("p", 6), ("q", 2), ("p", 5), ("p", 7)):
        heard.follows(Announcement(publisher, number))


@pytest.mark.parametrize("what", [marks(9, 0, identity="redis-2"), marks(9, 0, count=3)])
def test_marks_of_another_redis_or_topic_break_the_hearing(what: AnnouncedMarks) -> None:
    heard = hearing()
    heard.mark("p", marks(8, 0, 1))
    with pytest.raises(BrokenSubscription):
        heard.mark("p", what)


def test_a_new_publisher_of_a_partition_breaks_the_hearing() -> None:
    heard = hearing()
    heard.mark("p", marks(8, 0, 1))
    with pytest.raises(BrokenSubscription):
        heard.mark("q", marks(9, 1))


# --- announcements


def test_announcements_are_read_as_they_were_written() -> None:
    announcer = Announcer("p")
    keys = ["ns:things:d:s:a", 'ns:things:d:s:"ü\n\0:']
    changes = announcer.changes([key.encode() for key in keys], ["things"])
    told = announcer.marks("redis-1", 4, {3: (9, 1000)})
    assert decode(changes) == Announcement("p", 1, keys, ["things"])
    assert decode(told) == Announcement("p", 2, marks=AnnouncedMarks("redis-1", 4, {3: (9, 1000)}))


@pytest.mark.parametrize(
    "message", [b"", b"{}", b"[]", b'{"by":"p"}', b'{"by":"p","n":1,"marks":[[0,"x",1]]}', b"\xff"]
)
def test_what_cannot_be_read_is_said_so(message: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(message)


# --- lines


@given(st.text(min_size=1, max_size=40))
def test_every_spelling_names_its_key(text: str) -> None:
    try:
        expected = TARGETS[b"string"].entry_prefix + canonical(text).encode()
    except UnicodeEncodeError:
        return
    for line in spellings("string", canonical(text)):
        match = LINE.fullmatch(line)
        assert match is not None
        assert TARGETS[b"string"].entry_key(match[3]) == expected


@given(st.text("aZ9-._~!$&'()*+,;=:@/%é", min_size=1, max_size=12))
def test_spellings_are_what_clients_make_of_a_key(text: str) -> None:
    as_clients_do = {quote(text, safe=safe) for safe in ("!$&'()*+,;=:@", "!'()*", "")}
    lines = {f"GET /v1/things/{each} HTTP/1.1".encode() for each in as_clients_do}
    assert set(spellings("things", f"s:{text}")) == lines


@pytest.mark.parametrize(
    ("kind", "key"),
    [("int", "i:-7"), ("objectid", "o:5f0d1e2a3b4c5d6e7f809192"), ("uuid", "u:12345678123456781234567812345678")],
)
def test_keys_of_every_type_have_a_line(kind: str, key: str) -> None:
    [line] = spellings(kind, key)
    match = LINE.fullmatch(line)
    assert match is not None
    assert TARGETS[kind.encode()].entry_key(match[3]) == f"ns:{kind}:d:{key}".encode()


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/string/a%zz HTTP/1.1",
        b"GET /v1/string/%ff HTTP/1.1",
        b"GET /v1/int/01 HTTP/1.1",
        b"GET /v1/string/" + b"%41" * 5000 + b" HTTP/1.1",
    ],
)
def test_a_segment_that_is_no_key_has_no_entry(line: bytes) -> None:
    match = LINE.fullmatch(line)
    assert match is not None
    assert TARGETS[match[2]].entry_key(match[3]) is None


@given(st.binary(max_size=60))
def test_a_line_is_read_only_if_it_has_nothing_but_characters_of_a_path(noise: bytes) -> None:
    match = LINE.fullmatch(b"GET /v1/string/" + noise + b" HTTP/1.1")
    assert (match is not None) == bool(re.fullmatch(rb"[A-Za-z0-9._~!$&'()*+,;=:@%-]+", noise))


# --- headers


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], PLAIN),
        ([(b"host", b"x"), (b"connection", b"Keep-Alive"), (b"user-agent", b"y")], PLAIN),
        ([(b"accept-encoding", b"gzip, deflate")], Plain(b"gzip")),
        ([(b"accept-encoding", b"gzip, br")], Plain(b"br")),
        ([(b"accept-encoding", b"br;q=0.5, gzip;q=0.8")], Plain(b"gzip")),
        ([(b"accept-encoding", b"br;q=none, x-gzip")], Plain(b"gzip")),
        ([(b"accept-encoding", b"gzip;q=0, br; q=0.0, zstd")], PLAIN),
        ([(b"if-none-match", b'"a", W/"b"')], Plain(none_match=Tags(frozenset((b"a", b"b")), frozenset((b"a",))))),
        ([(b"if-none-match", b'"a,b"')], Plain(none_match=Tags(frozenset((b"a,b",)), frozenset((b"a,b",))))),
        ([(b"if-none-match", b"a")], None),
        ([(b"if-match", b"*")], None),
        ([(b"if-unmodified-since", b"x")], None),
        ([(b"connection", b"close")], None),
        ([(b"connection", b"keep-alive, upgrade")], None),
        ([(b"content-length", b"0")], None),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"expect", b"100-continue")], None),
        ([(b"cache-control", b"max-age=5")], None),
        ([(b"neverstale-min-version", b"0" * 16)], None),
    ],
)
def test_headers_that_ask_for_more_than_a_hit_are_not_plain(
    headers: list[tuple[bytes, bytes]], expected: Plain | None
) -> None:
    assert plain_of(headers) == expected


# --- compression


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
