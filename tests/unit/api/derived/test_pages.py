"""Where pages lie: the same place until the generations change, in bounded memory; and the lines that name them."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from neverstale.api.derived.generations import Known
from neverstale.api.derived.pages import PageSource
from neverstale.api.derived.sources import Sources, by_name
from neverstale.api.hits.request_lines import RequestLines
from neverstale.api.reads.ask import FutureAsk
from neverstale.api.reads.l1 import L1
from neverstale.catalog import Resource
from neverstale.derived.generations import Generation
from neverstale.derived.redis_names import DerivedNames, slot_of
from neverstale.keys import Names
from neverstale.redis.cache import Cache

FLIGHTS = Resource.model_validate(
    {
        "name": "flights",
        "key_type": "string",
        "lists": {"all": {"by": ["origin"], "cached_pages": 2, "page_size": 5}},
    }
)
LINE = b"GET /v1/flights/-/lists/all?origin=JFK HTTP/1.1"


class Chosen:
    """The generations, of which one is chosen by hand."""

    def __init__(self) -> None:
        self.names = DerivedNames("ns", "flights")
        self.moment = object()
        self.generation: Generation | None = None

    def choose(self, name: str) -> None:
        self.generation, self.moment = Generation(name, "complete", "redis-1", 1, ""), object()

    def for_list(self, name: str, digest: str) -> Generation | None:
        return self.generation


@pytest.fixture
def chosen() -> Chosen:
    return Chosen()


def pages_of(chosen: Chosen, **resource: Any) -> PageSource:
    declared = FLIGHTS.model_copy(update=resource)
    return PageSource(declared, "all", Cache(cast("Redis", None), Names("ns")), cast("Known", chosen))


def test_a_page_lies_in_the_present_generation(chosen: Chosen) -> None:
    pages = pages_of(chosen)
    key = pages.key("s:JFK", ["JFK"], None)
    entry, place = pages.locate(key)
    assert place.generation is None, "nothing vouches for it"
    chosen.choose("1a")
    later, vouched = pages.locate(key)
    assert vouched.generation is chosen.generation
    assert later != entry
    assert later.startswith(b"ns:{flights}:1a:l:all:s:JFK:")
    assert vouched.group == b"flights|all|" + slot_of("s:JFK")
    assert pages.locate(key) is pages.locate(key), "it is remembered"


def test_what_is_remembered_of_pages_is_bounded(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverstale.api.derived.grouped.MOST_LOCATED", 10)
    pages = pages_of(chosen)
    for number in range(25):
        pages.locate(pages.key(str(number), [str(number)], None))
    assert len(pages._located) <= 10


@pytest.mark.parametrize("query", [b"origin=JFK", b"origin=%4AFK", b"origin:string=JFK"])
def test_a_line_names_its_page_however_it_is_spelled(chosen: Chosen, query: bytes) -> None:
    pages = pages_of(chosen)
    lines = RequestLines(Sources({}, by_name([[pages]])))
    expected = pages.key("s:JFK", ["JFK"], None)
    for method in (b"GET", b"HEAD"):
        line = LINE.replace(b"GET", method).replace(b"origin=JFK", query)
        assert lines.find(line) == (pages, expected)
        assert lines.find(line) is lines.find(line), "it is remembered"


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace(b"all", b"none"),
        LINE.replace(b"flights", b"airlines"),
        LINE.replace(b"origin", b"other"),
        LINE.replace(b"?origin=JFK", b""),
        LINE.replace(b"JFK", b"%41" * 340),
        LINE.replace(b"JFK", b"JFK&cursor=nonsense"),
        LINE.replace(b"GET", b"PUT"),
    ],
)
def test_every_other_line_takes_the_ordinary_way(chosen: Chosen, line: bytes) -> None:
    lines = RequestLines(Sources({}, by_name([[pages_of(chosen)]])))
    assert lines.find(line) is None


@pytest.mark.parametrize("expires", [None, "ends"])
async def test_a_page_is_kept_in_memory_until_its_group_is_announced(chosen: Chosen, expires: str | None) -> None:
    """Unless its documents say when they end: Redis forgets such a page in time, L1 would not."""
    chosen.choose("1a")
    pages, l1 = pages_of(chosen, expires_field=expires), L1(1 << 20, 60)
    l1.vouch(5)
    key = pages.key("s:JFK", ["JFK"], None)
    entry_key, place = pages.locate(key)
    ask = FutureAsk(pages, key, entry_key=entry_key, place=place)
    reading = l1.begin(pages.announced([ask]))
    pages.keep(l1, reading, ask, LINE, b"e")
    assert l1.answers.get(LINE) == (b"e" if expires is None else None)
    l1.changed_group(place.group)
    assert l1.answers.get(LINE) is None
    pages.keep(l1, reading, ask, LINE, b"e")
    assert l1.answers.get(LINE) is None, "what was being read when the group was announced is not kept"
