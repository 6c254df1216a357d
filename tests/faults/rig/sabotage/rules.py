"""A rule of ours, by its name, and how it is taken away."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from typing import Any
from unittest.mock import patch

Patches = Iterator[AbstractContextManager[Any]]
Rule = Callable[[], Patches]

RULES: dict[str, Rule] = {}
SEPARATOR = "|"


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register the patches that take a rule away."""

    def register(patches: Rule) -> Rule:
        assert name not in RULES, name
        RULES[name] = patches
        return patches

    return register


@contextlib.contextmanager
def without(name: str | None) -> Iterator[None]:
    """In here the rule does not hold. `None`: all do."""
    with ExitStack() as stack:
        if name is not None:
            for each in RULES[name]():
                stack.enter_context(each)
        yield


def replaced(target: str, new: Any) -> AbstractContextManager[Any]:
    """`module:attribute.attribute` is `new`."""
    module, _, attributes = target.partition(":")
    *path, last = attributes.split(".")
    owner: Any = import_module(module)
    for name in path:
        owner = getattr(owner, name)
    return patch.object(owner, last, new)


def script_changed(name: str, *changes: tuple[str, str]) -> AbstractContextManager[Any]:
    """The shipped script with passages replaced; they must still be there to be replaced."""
    from neverstale.redis import scripts

    shipped = scripts.source

    def source(asked: Any) -> str:
        text = shipped(asked)
        for old, new in changes if asked == name else ():
            assert text.count(old) == 1, f"{name}.lua has changed: {old!r}"
            text = text.replace(old, new)
        return text

    return replaced("neverstale.redis.scripts:source", source)
