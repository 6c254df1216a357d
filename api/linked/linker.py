"""The linker: documents with those that they refer to, read level by level.

    flights  --carrier-->  airlines  --country-->  countries
             --origin--->  airports

All documents of one level are asked for at once, so each level costs one more round trip, however many documents and
references there are. What an answer is made of is one `Answer`: it is complete as far as its least complete part, and
has the version of its latest one. A document that is referred to twice, or is shown anyway, is read once.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from neverstale.api.linked.many import Each, Many
from neverstale.api.linked.shapes import places, selected
from neverstale.api.linked.view import View
from neverstale.api.reads.answer import Answer, joined
from neverstale.api.reads.source import DocumentSource
from neverstale.api.web.problems import bad_parameter
from neverstale.errors import Refused
from neverstale.keys import KeyValue, of_json
from neverstale.redis.entries import etag_of

MOST_DOCUMENTS: Final = 200
"""So many are read for the references of one answer."""
OFF_LOOP_BYTES: Final = 64 << 10
"""JSON of which more is parsed and put together by a thread."""

_T = TypeVar("_T")
Part = tuple[str, KeyValue]
"""A document of an answer: resource and key."""


@dataclass(slots=True, eq=False)
class _Node:
    """A document and what it refers to."""

    view: View
    each: Each | None
    """`None`: it is an item of a page, and shares the page's answer; or it is not read yet."""
    document: dict[str, Any] | None = None
    """Parsed; `None`: it is shown as it is, or there is none."""
    named: list[tuple[Any, Any, View, KeyValue]] = field(default_factory=list)
    """What holds a key, where in it, and which document it names."""
    links: list[tuple[Any, Any, "_Node"]] = field(default_factory=list)
    """The same with the documents."""
    shown: bytes | Refused | None = None
    """At the end: JSON; `None`: there is no document."""
    answer: Answer | None = None
    """At the end: as complete as the least of its parts."""

    def parse(self) -> None:
        """Leaves out what is not wanted, and finds the keys of others. What cannot be a key names no document."""
        if self.document is None:
            if self.view.is_whole or not isinstance(self.each, Answer) or self.each.body is None:
                return
            self.document = orjson.loads(self.each.body)
        if self.view.selection is not None:
            self.document = selected(self.document, self.view.selection)
        for followed in self.view.followed:
            key_type = followed.view.resource.key_type
            for holder, place in places(self.document, followed.path):
                if (value := holder[place]) is None:
                    continue
                try:
                    self.named.append((holder, place, followed.view, of_json(value, key_type)))
                except ValueError:
                    holder[place] = None

    def show(self) -> None:
        """Puts it together; comes after its links were."""
        if isinstance(self.each, Refused):
            self.shown = self.each
            return
        parts = [self.each] if self.each is not None else []
        for holder, place, node in self.links:
            if isinstance(node.shown, Refused):
                self.shown = node.shown  # null would say that there is no such document
                return
            holder[place] = None if node.shown is None else orjson.Fragment(node.shown)
            if node.answer is not None:
                parts.append(node.answer)
        self.answer = joined(parts) if parts else None
        if self.document is not None:
            self.shown = orjson.dumps(self.document)
        elif self.each is not None:
            self.shown = self.each.body


class Linker:
    """Follows the references of one answer.

    `documents`: the sources by resource. `many`: reads for this answer. `parts` are all documents that the answer
    shows by now: whoever keeps the answer up to date must hear of changes of each.
    """

    def __init__(self, documents: Mapping[str, DocumentSource], many: Many) -> None:
        self.parts: dict[Part, Each] = {}
        self._documents = documents
        self._many = many
        self._referred = 0
        """Documents that were read for references."""
        self.beside: list[Answer] = []
        """What else the answer is made of: a page, a count."""

    def know(self, resource: str, answers: Mapping[KeyValue, Each]) -> None:
        """Takes documents of the answer that were read already: they are not read again where others name them."""
        self.parts |= {(resource, key): each for key, each in answers.items()}

    async def documents(self, view: View, answers: Mapping[KeyValue, Each]) -> dict[KeyValue, Each]:
        """The same answers, in the view. Of a document that cannot be shown without one that MongoDB refuses, the
        refusal. Raises as `Many.read`, and a `Problem` if there are too many references."""
        self.know(view.resource.name, answers)
        if view.is_whole:
            return dict(answers)
        nodes = {key: _Node(view, each) for key, each in answers.items()}
        await self._show(list(nodes.values()))
        return {key: self._answer(node) for key, node in nodes.items()}

    async def page(self, view: View, page: Answer) -> Answer:
        """A page with its items in the view; raises likewise, and what MongoDB refuses."""
        if view.is_whole or page.body is None:
            return page
        self.beside.append(page)
        content = await _off_loop(len(page.body), partial(orjson.loads, page.body))
        nodes = [_Node(view, None, item) for item in content["items"]]
        await self._show(nodes)
        content["items"] = items = []
        for node in nodes:
            if isinstance(node.shown, Refused):
                raise node.shown
            items.append(orjson.Fragment(node.shown or b"null"))
        body = await _off_loop(len(page.body), partial(orjson.dumps, content))
        answers = [page, *(each for each in self.parts.values() if isinstance(each, Answer))]
        return joined(answers)._replace(body=body, etag=etag_of(body))

    def with_total(self, page: Answer, counted: Answer, total: int) -> Answer:
        """A page that says how many documents its group has, as a counter does."""
        self.beside += [page, counted]
        body = b'%b,"total":%d}' % ((page.body or b"{}")[:-1], total)
        return joined([page, counted])._replace(body=body, etag=etag_of(body))

    async def _show(self, roots: Sequence[_Node]) -> None:
        levels: list[Sequence[_Node]] = [roots]
        while levels[-1]:
            levels.append(await self._below(levels[-1]))
        for nodes in reversed(levels):
            # What is put in may be much more than what was read: one document may come to a thousand places.
            grown = sum(len(node.shown) for one in nodes for _, _, node in one.links if isinstance(node.shown, bytes))
            self._many.grow(grown)
            await _off_loop(_size(nodes) + grown, partial(_each, nodes, _Node.show))

    async def _below(self, nodes: Sequence[_Node]) -> list[_Node]:
        """The documents that these refer to, read."""
        await _off_loop(_size(nodes), partial(_each, nodes, _Node.parse))
        below: dict[tuple[View, KeyValue], _Node] = {}
        for node in nodes:
            for holder, place, view, key in node.named:
                named = below.get((view, key))
                if named is None:
                    named = below[view, key] = _Node(view, None)
                node.links.append((holder, place, named))
        await self._read({(view.resource.name, key) for view, key in below})
        for (view, key), node in below.items():
            node.each = self.parts[view.resource.name, key]
        return list(below.values())

    async def _read(self, parts: set[Part]) -> None:
        wanted: dict[str, list[KeyValue]] = {}
        for resource, key in parts - self.parts.keys():
            wanted.setdefault(resource, []).append(key)
        count = self._referred + sum(map(len, wanted.values()))
        if count > MOST_DOCUMENTS:
            detail = f"the answer refers to {count} documents, and may to {MOST_DOCUMENTS}; ask for fewer at once"
            raise bad_parameter("expand", detail)
        self._referred = count
        reads = [self._many.read(self._documents[resource], keys) for resource, keys in wanted.items()]
        for resource, found in zip(wanted, await asyncio.gather(*reads), strict=True):
            self.parts |= {(resource, key): each for key, each in found.items()}

    @staticmethod
    def _answer(node: _Node) -> Each:
        if isinstance(node.shown, Refused):
            return node.shown
        assert node.answer is not None
        return node.answer if node.shown is None else node.answer._replace(body=node.shown, etag=etag_of(node.shown))


def _size(nodes: Iterable[_Node]) -> int:
    bodies = [node.each.body for node in nodes if isinstance(node.each, Answer)]
    return sum(len(body) for body in bodies if body is not None)


def _each(nodes: Iterable[_Node], work: Callable[[_Node], None]) -> None:
    for node in nodes:
        work(node)


async def _off_loop(size: int, work: Callable[[], _T]) -> _T:
    return await asyncio.to_thread(work) if size > OFF_LOOP_BYTES else work()
