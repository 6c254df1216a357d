"""Request lines of lists: which page they name, remembered.

    GET /v1/{resource}/-/lists/{list}?{query} HTTP/1.1

What a line names never changes, so it is read once, and then found by its bytes. Only pages that are cached are
answered here; every other line takes the ordinary way, where it is also said what is wrong with it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from api.derived.cursors import WrongCursor
from api.derived.generations import Known
from api.derived.pages import PageKey, PageShelf, PageSource
from api.derived.sources import Derived, page_shelves
from api.reads.ask import Ask, Reply
from api.reads.shelves import Named, Place
from api.reads.wish import ANYTHING
from api.web.paths import PREFIX
from api.web.problems import Problem, bad_parameter
from api.web.query import asked
from neverstale.redis.cache import Cache

PAGE_LINE: Final = re.compile(
    rb"(GET|HEAD) (/v1/[^/?#%]+/-/lists/[a-z0-9_-]+)(?:\?([A-Za-z0-9._~!$&'()*+,;=:@%/?-]*))? HTTP/1\.1"
)
MOST: Final = 16_384
"""Lines that are remembered."""
LINE_BYTES: Final = 1024


def page_of(pages: PageSource, query: bytes) -> PageKey:
    """The page of a list that a query string names; a `Problem` if none."""
    by = pages.declared.by
    said = asked(query, pages.resource, by, ("cursor",), whole=True)
    try:
        return pages.key(said.group(by), [said.values[path] for path in by], said.text("cursor"))
    except WrongCursor as error:
        raise bad_parameter("cursor", str(error)) from None


class PageTarget:
    """One page of one list, as request lines name it; `api.hits.request_lines.Target` is the same for documents."""

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
