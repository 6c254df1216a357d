"""Views: what an answer shows of documents: `expand=carrier,origin.city` and `fields=status,carrier.name`.

A view belongs to a resource. It says which fields are shown, and which references are followed to documents of other
resources, each with a view of its own. So all that a request may read is known before anything is read
(`View.resources`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeAlias

from neverstale.api.web.paths import shown
from neverstale.api.web.problems import bad_parameter
from neverstale.catalog import Resource
from neverstale.catalog.references import INSIDE, path_of

MOST_LEVELS: Final = 3
MOST_PATHS: Final = 100
"""Of each parameter."""

Selection: TypeAlias = dict[str, "Selection | None"]
"""Field -> what is shown of it; `None`: all."""
_Path: TypeAlias = tuple[str, ...]
_Wanted: TypeAlias = dict[str, "_Wanted"]
"""References by name, as `expand` says them."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is shown of the documents of one resource."""

    resource: Resource
    selection: Selection | None
    """`None`: all fields. `_id` is always shown."""
    followed: tuple["Followed", ...]

    @property
    def is_whole(self) -> bool:
        """Whether documents are shown as they are."""
        return self.selection is None and not self.followed

    @property
    def resources(self) -> frozenset[str]:
        """The names of all resources whose documents it shows: whoever asks must be allowed to read each of them."""
        return frozenset((self.resource.name,)).union(*(each.view.resources for each in self.followed))


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """A reference that is replaced by the document that it names."""

    path: _Path
    view: View


class Views:
    """Makes the views of one resource. `resources`: all of the catalog."""

    def __init__(self, resource: Resource, resources: Mapping[str, Resource]) -> None:
        self.whole: Final = View(resource, None, ())
        self.resource = resource
        self._resources = resources

    def of(self, expand: Sequence[str], fields: Sequence[str] | None) -> View:
        """The view that a request asks for; a `Problem` says what is wrong. `fields` `None`: all of them."""
        if not expand and fields is None:
            return self.whole
        for parameter, paths in (("expand", expand), ("fields", fields or ())):
            if len(paths) > MOST_PATHS:
                raise bad_parameter(parameter, f"names more than {MOST_PATHS}; ask for fewer")
        wanted = self._wanted(expand)
        split = None if fields is None else [_split("fields", text) for text in fields]
        return self._view(self.resource, wanted, split)

    def _wanted(self, expand: Iterable[str]) -> _Wanted:
        wanted: _Wanted = {}
        for text in expand:
            names = _split("expand", text)
            if len(names) > MOST_LEVELS:
                raise bad_parameter("expand", f"{shown(text)} is deeper than {MOST_LEVELS} references")
            resource, here = self.resource, wanted
            for name in names:
                reference = resource.refs.get(name)
                if reference is None:
                    _no_reference(name, resource)
                resource, here = self._resources[reference.to], here.setdefault(name, {})
        return wanted

    def _view(self, resource: Resource, wanted: _Wanted, paths: Sequence[_Path] | None) -> View:
        references = {path_of(name, resource.refs[name]): name for name in wanted}
        if paths is None:
            inside: dict[_Path, list[_Path] | None] = dict.fromkeys(references)
            selection: Selection | None = None
        else:
            chosen: Selection = {"_id": None}
            inside = {}
            for path in paths:
                at = _reference_at(path, references)
                if at is None:
                    _check_field(path, resource)
                    inside |= {each: None for each in references if each[: len(path)] == path}
                    _select(chosen, path)
                    continue
                below = inside.setdefault(at, [])
                if below is not None:
                    below.append(path[len(at) :])
                _select(chosen, at)
            selection = chosen
        followed = tuple(
            Followed(path, self._view(self._target(resource, name), wanted[name], inside[path]))
            for path, name in references.items()
            if path in inside
        )
        return View(resource, selection, followed)

    def _target(self, resource: Resource, name: str) -> Resource:
        return self._resources[resource.refs[name].to]


def names_of(resource: Resource, resources: Mapping[str, Resource], levels: int = MOST_LEVELS) -> Iterator[str]:
    """All that `expand` can name, the shortest first at each level."""
    for name, reference in resource.refs.items():
        yield name
        if levels > 1:
            for deeper in names_of(resources[reference.to], resources, levels - 1):
                yield f"{name}.{deeper}"


def _split(parameter: str, text: str) -> _Path:
    names = tuple(text.split("."))
    if not all(names):
        raise bad_parameter(parameter, f"{shown(text)!r} is no name, and no names with a dot between each two")
    return names


def _reference_at(path: _Path, references: Iterable[_Path]) -> _Path | None:
    """The followed reference that a path leads through."""
    return next((each for each in references if len(each) < len(path) and path[: len(each)] == each), None)


def _select(selection: Selection, path: _Path) -> None:
    here = selection
    for name in path[:-1]:
        deeper = here.setdefault(name, {})
        if deeper is None:
            return  # all of it is shown anyway
        here = deeper
    here[path[-1]] = None


def _check_field(path: _Path, resource: Resource) -> None:
    """A `Problem` where the catalog knows that there is no such field."""
    name = path[0]
    declared = resource.fields
    if declared is not None and name != "_id" and name not in declared:
        known = ", ".join(("_id", *declared))
        raise bad_parameter("fields", f"{resource.name} has no field {shown(name)!r}; fields: {known}")
    if len(path) == 1:
        return
    for reference, its in resource.refs.items():
        at = path_of(reference, its)
        if path[: len(at)] == at and len(path) > len(at):
            detail = f"{'.'.join(at)} is the key of a document of {its.to}; to see inside, add expand={reference}"
            raise bad_parameter("fields", detail)
    kind = resource.key_type if name == "_id" else (declared or {}).get(name, "any")
    if kind not in INSIDE:
        raise bad_parameter("fields", f"{name} is declared as {kind} and has no fields inside; name {name} alone")


def _no_reference(name: str, resource: Resource) -> NoReturn:
    known = ", ".join(resource.refs)
    if not known:
        detail = f"{resource.name} has no references; the catalog declares them as resources.{resource.name}.refs"
    else:
        detail = f"{resource.name} has no reference {shown(name)!r}; references: {known}"
    raise bad_parameter("expand", detail)
