"""Request lines: the names under which answers are kept in process, and what they name.

    GET /v1/{resource}/{key} HTTP/1.1
    GET /v1/{resource}/-/lists/{list}?{query} HTTP/1.1

Only lines of characters that may stand in a path segment as they are (RFC 3986, `pchar`) are read here; every other
request takes the ordinary way. A key has as many lines as there are ways to escape it, and the answers under all of
them must vanish when it changes. So answers are kept only under the spellings that clients really use, which can be
told from the key: reserved characters as they are (browsers, curl, httpx), and escaped as `encodeURIComponent` or as
Python's `quote(key, safe="")` does it.

Which page a line names never changes, so that is read once, and then found by its bytes. Only pages that are cached
are answered here; every other line takes the ordinary way, where it is also said what is wrong with it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import quote

from api.derived.cursors import WrongCursor
from api.derived.generations import Known
from api.derived.pages import PageKey, PageShelf, PageSource
from api.derived.sources import Derived, page_shelves
from api.reads.answer import ANYTHING
from api.reads.ask import Ask, Reply
from api.reads.source import Named, Place
from api.web.paths import PREFIX, key_of
from api.web.problems import Problem, bad_parameter
from api.web.query import asked
from neverstale.catalog import Catalog, Resource
from neverstale.keys import MAX_KEY_BYTES, KeyValue, Names, canonical, value_of
from neverstale.redis.cache import Cache

LINE: Final = re.compile(rb"(GET|HEAD) /v1/([^/?#%]+)/([A-Za-z0-9._~!$&'()*+,;=:@%-]+) HTTP/1\.1")
PAGE_LINE: Final = re.compile(
    rb"(GET|HEAD) (/v1/[^/?#%]+/-/lists/[a-z0-9_-]+)(?:\?([A-Za-z0-9._~!$&'()*+,;=:@%/?-]*))? HTTP/1\.1"
)
MOST: Final = 16_384
"""Lines that are remembered."""
LINE_BYTES: Final = 1024

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")
_RESERVED: Final = "!$&'()*+,;=:@"
_SEGMENT: Final = re.compile(rf"[A-Za-z0-9._~{_RESERVED}-]*")
_ESCAPE: Final = {letter: quote(letter, safe="") for letter in _RESERVED}
_UNESCAPED: Final = (_RESERVED, "!'()*", "")
"""What each of the spellings leaves as it is."""


@dataclass(frozen=True, slots=True)
class Target:
    """One resource, as request lines name it."""

    resource: Resource
    name: bytes
    entry_prefix: bytes
    place: ClassVar[None] = None
    """The documents of a collection share its floor."""
    counted: ClassVar[bool] = True
    """Whether reads of this say what is read most."""

    @property
    def source(self) -> str:
        return self.resource.name

    @property
    def ends(self) -> bool:
        """Whether documents say when they end."""
        return self.resource.expires_field is not None

    def entry_key(self, segment: bytes) -> bytes | None:
        """The entry of an undecoded path segment as `LINE` finds it; `None`: it names no key of this resource."""
        if self._is_plain(segment):
            return self.entry_prefix + b"s:" + segment
        try:
            return self.entry_prefix + canonical(self.key(segment)).encode()
        except Problem:
            return None

    def ask(self, segment: bytes, entry_key: bytes, reply: Reply) -> Ask:
        """For what is no plain hit."""
        if self._is_plain(segment):
            text = segment.decode("ascii")
            return Ask(self.resource, text, "s:" + text, entry_key, reply)
        key = self.key(segment)
        return Ask(self.resource, key, canonical(key), entry_key, reply)

    def _is_plain(self, segment: bytes) -> bool:
        """Whether it is the key itself."""
        return self.resource.key_type == "string" and b"%" not in segment and len(segment) < MAX_KEY_BYTES

    def canonical(self, entry_key: bytes) -> str:
        return entry_key[len(self.entry_prefix) :].decode()

    def key(self, segment: bytes) -> KeyValue:
        return key_of(segment.decode("ascii"), self.resource)


def targets(catalog: Catalog, names: Names) -> dict[bytes, Target]:
    """Resource, as a line names it -> its target."""
    return {
        name.encode(): Target(resource, name.encode(), names.entry_prefix(name))
        for name, resource in catalog.resources.items()
    }


def spellings(resource: str, canonical_key: str) -> Iterable[bytes]:
    """The lines under which the document's answers may be kept; the key must be one of the resource's type."""
    text = canonical_key[2:] if canonical_key[0] != "u" else str(value_of(canonical_key))
    if _UNRESERVED.fullmatch(text):
        return (b"GET %b%b/%b HTTP/1.1" % (PREFIX.encode(), resource.encode(), text.encode()),)
    if _SEGMENT.fullmatch(text):
        escaped = _spellings_of_segment(text)
    else:
        escaped = {quote(text, safe=safe) for safe in _UNESCAPED}
    return [b"GET %b%b/%b HTTP/1.1" % (PREFIX.encode(), resource.encode(), each.encode()) for each in escaped]


def _spellings_of_segment(text: str) -> set[str]:
    """As `quote` has it, but much faster: every process spells every change."""
    component = all_escaped = text
    for letter in set(text).intersection(_RESERVED):
        all_escaped = all_escaped.replace(letter, _ESCAPE[letter])
        if letter not in _UNESCAPED[1]:
            component = component.replace(letter, _ESCAPE[letter])
    return {text, component, all_escaped}


def page_of(pages: PageSource, query: bytes) -> PageKey:
    """The page of a list that a query string names; a `Problem` if none."""
    by = pages.declared.by
    said = asked(query, pages.resource, by, ("cursor",), whole=True)
    try:
        return pages.key(said.group(by), [said.values[path] for path in by], said.text("cursor"))
    except WrongCursor as error:
        raise bad_parameter("cursor", str(error)) from None


class PageTarget:
    """One page of one list, as request lines name it; `Target` is the same for documents."""

    counted: ClassVar[bool] = False
    """Whether reads of this say what is read most."""

    __slots__ = ("_key", "_moment", "_named", "_pages", "_shelf", "name", "source")

    def __init__(self, pages: PageSource, shelf: PageShelf, key: PageKey) -> None:
        self.source = pages.name
        self.name = pages.name.encode()
        self._pages = pages
        self._shelf = shelf
        self._key = key
        self._moment = shelf.moment
        self._named = shelf.name(key)

    @property
    def ends(self) -> bool:
        """Whether documents say when they end."""
        return self._pages.resource.expires_field is not None

    @property
    def place(self) -> Place | None:
        """What vouches for the page; as of the last `entry_key`."""
        return self._named.place

    def entry_key(self) -> bytes:
        """The page's entry in the present generation."""
        moment = self._shelf.moment
        if self._moment is not moment:
            self._moment, self._named = moment, self._shelf.name(self._key)
        return self._named.entry_key

    def ask(self, segment: bytes, entry_key: bytes, reply: Reply) -> Ask:
        """For what is no plain hit."""
        named: Named = self._shelf.name(self._key)
        return Ask(self._pages, self._key, named.canonical, named.entry_key, reply, ANYTHING, named.place)


class PageLines:
    """Of all lists of a catalog."""

    def __init__(self, shelves: dict[bytes, tuple[PageSource, PageShelf]]) -> None:
        """`shelves`: by path, `/v1/{resource}/-/lists/{list}`."""
        self._shelves = shelves
        self.known: dict[bytes, PageTarget] = {}
        """What was found lately."""

    def find(self, line: bytes) -> PageTarget | None:
        """The cached page that a line of `GET` or `HEAD` names, if all is as usual."""
        if not self._shelves:
            return None
        match = PAGE_LINE.fullmatch(line) if len(line) <= LINE_BYTES else None
        found = self._shelves.get(match[2]) if match is not None else None
        if match is None or found is None:
            return None
        pages, shelf = found
        try:
            key = page_of(pages, match[3] or b"")
        except Problem:
            return None
        if not pages.is_cached(key):
            return None
        if len(self.known) >= MOST:
            self.known.clear()
        target = self.known[line] = PageTarget(pages, shelf, key)
        return target


def page_lines(derived: Iterable[Derived], known: Mapping[str, Known], cache: Cache) -> PageLines:
    """What request lines of lists name."""
    return PageLines(
        {
            f"{PREFIX}{one.resource.name}/-/lists/{pages.list_name}".encode(): (pages, shelf)
            for one in derived
            for pages, shelf in page_shelves(one, known[one.resource.name], cache)
        }
    )
