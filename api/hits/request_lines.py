"""Request lines: which document or page a line names, told from its bytes.

    GET /v1/{resource}/{key} HTTP/1.1
    GET /v1/{resource}/-/lists/{list}?{query} HTTP/1.1
    GET /v1/{resource}/-/by/{field}/{value} HTTP/1.1

Only lines of characters that may stand in a path segment as they are (RFC 3986, `pchar`), or in a query, are read
here; every other request takes the ordinary way, where it is also said what is wrong with it. What a line names never
changes, so that is read once, and then found by the line; documents, pages and values each apart from the others:
callers can make up as many keys and values as they like. Only pages that are cached are answered here.
"""

import re
from typing import Any, Final, TypeVar

from neverstale.api.derived.cursors import WrongCursor
from neverstale.api.derived.lookups import LookupKey, LookupSource
from neverstale.api.derived.pages import PageKey, PageSource
from neverstale.api.derived.sources import Sources
from neverstale.api.reads.source import CachedSource, DocumentSource
from neverstale.api.web.paths import PREFIX, key_of
from neverstale.api.web.problems import Problem, bad_parameter
from neverstale.api.web.query import asked, looked_up, whole_number
from neverstale.catalog import Resource
from neverstale.keys import MAX_KEY_BYTES, KeyValue

LINE: Final = re.compile(rb"(GET|HEAD) /v1/([^/?#%]+)/([A-Za-z0-9._~!$&'()*+,;=:@%-]+) HTTP/1\.1")
PAGE_LINE: Final = re.compile(
    rb"(GET|HEAD) (/v1/[^/?#%]+/-/lists/[a-z0-9_-]+)(?:\?([A-Za-z0-9._~!$&'()*+,;=:@%/?-]*))? HTTP/1\.1"
)
LOOKUP_LINE: Final = re.compile(
    rb"(GET|HEAD) (/v1/[^/?#%]+/-/by/[A-Za-z0-9_.-]+)/([A-Za-z0-9._~!$&'()*+,;=:@%-]+) HTTP/1\.1"
)
MOST: Final = 16_384
"""Lines of documents that are remembered, as many of pages, and as many of values that are looked up."""
LINE_BYTES: Final = 1024
"""A line that is remembered has at most so many."""
DOCUMENT_LINE_BYTES: Final = 256
"""The same, of documents: theirs are short, and many."""


NamedT = TypeVar("NamedT")


class RequestLines:
    """The lines that name what the cache holds of a catalog."""

    def __init__(self, sources: Sources) -> None:
        self._documents = {name.encode(): source for name, source in sources.documents.items()}
        self._pages = {
            f"{PREFIX}{source.resource.name}/-/lists/{source.list_name}".encode(): source
            for source in sources.every(PageSource)
        }
        self._lookups = {
            f"{PREFIX}{source.resource.name}/-/by/{source.path}".encode(): source
            for source in sources.every(LookupSource)
        }
        self._named: dict[bytes, tuple[DocumentSource, KeyValue]] = {}
        self._known: dict[bytes, tuple[PageSource, PageKey]] = {}
        self._looked_up: dict[bytes, tuple[LookupSource, LookupKey]] = {}

    def find(self, line: bytes) -> tuple[CachedSource, Any] | None:
        """The source and the key that a line of `GET` or `HEAD` names, if all is as usual."""
        document = self._named.get(line)
        if document is not None:
            return document
        page = self._known.get(line)
        if page is not None:
            return page
        match = LINE.fullmatch(line)
        if match is None:
            return (self._lookups and self._find_lookup(line)) or (self._pages and self._find_page(line)) or None
        source = self._documents.get(match[2])
        if source is None:
            return None
        key = _key(match[3], source.resource)
        if key is None:
            return None
        named = source, key
        return _remembered(self._named, line, named) if len(line) <= DOCUMENT_LINE_BYTES else named

    def _find_page(self, line: bytes) -> tuple[PageSource, PageKey] | None:
        match = PAGE_LINE.fullmatch(line) if len(line) <= LINE_BYTES else None
        source = self._pages.get(match[2]) if match is not None else None
        if match is None or source is None:
            return None
        try:
            key = page_of(source, match[3] or b"")
        except Problem:
            return None
        if not source.is_cached(key):
            return None
        return _remembered(self._known, line, (source, key))

    def _find_lookup(self, line: bytes) -> tuple[LookupSource, LookupKey] | None:
        known = self._looked_up.get(line)
        if known is not None:
            return known
        match = LOOKUP_LINE.fullmatch(line) if len(line) <= LINE_BYTES else None
        source = self._lookups.get(match[2]) if match is not None else None
        if match is None or source is None:
            return None
        try:
            found = source, source.key(looked_up(match[3].decode("ascii"), source.path, source.resource))
        except Problem:
            return None
        return _remembered(self._looked_up, line, found)


def _remembered(known: dict[bytes, NamedT], line: bytes, named: NamedT) -> NamedT:
    """What a line names, known from now on."""
    if len(known) >= MOST:
        known.clear()
    known[line] = named
    return named


def _key(segment: bytes, resource: Resource) -> KeyValue | None:
    """The key in an undecoded path segment; `None`: there is none of this resource in it."""
    text = segment.decode("ascii")
    if resource.key_type == "string" and "%" not in text and len(text) <= MAX_KEY_BYTES:
        return text
    try:
        return key_of(text, resource)
    except Problem:
        return None


def page_of(pages: PageSource, query: bytes) -> PageKey:
    """The page of a list that a query string names; a `Problem` if none."""
    declared = pages.declared
    by, first = declared.by, declared.order[0][0]
    ranged = "" if first in by or first in declared.where else first
    said = asked(query, pages.resource, by, ("cursor", "limit"), whole=True, ranged=ranged)
    limit = whole_number(said, "limit", declared.page_size, 1, declared.page_size)
    try:
        return pages.key(said.group(by), [said.values[path] for path in by], said.text("cursor"), limit, said.span)
    except WrongCursor as error:
        raise bad_parameter("cursor", str(error)) from None
