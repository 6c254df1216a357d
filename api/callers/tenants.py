"""Tenants: whose documents a caller sees. The cache is shared; each answer is looked at before it goes out.

A document of another tenant is a 404, as if there were none. Where a value comes from the caller's credentials
(`claim:NAME` in the catalog) it is put into the query; a query that names another one is refused, and not corrected:
who asks for another's list shall not take his own for it.
"""

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from neverstale.api.callers.caller import Caller
from neverstale.api.reads.answer import Answer
from neverstale.api.web.paths import parameters_of, text_of
from neverstale.api.web.problems import Problem, other_tenant
from neverstale.api.web.query import kind_of
from neverstale.api.web.typed_values import WrongValue, read
from neverstale.catalog import Resource
from neverstale.catalog.tenants import Tenant

LETTERS: Final = 500
"""A claim that names a group has no more."""
NUMBERS: Final = ("int", "long")
OURS: Final = frozenset(("around", "cursor", "expand", "fields", "group", "limit", "total"))
"""Parameters of ours: a field that is called like one is always named with its type."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The tenant of a caller, of one resource."""

    field: str
    shown: str | int
    """As JSON shows it."""
    value: Any
    """As MongoDB holds it."""

    def owns(self, body: bytes) -> bool:
        """Whether a document is the tenant's."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = json.loads(body)  # numbers that are too large for the other one
        held = document.get(self.field)
        return any(map(self._is, held)) if isinstance(held, list) else self._is(held)

    def _is(self, value: object) -> bool:
        return type(value) is type(self.shown) and value == self.shown

    def seen(self, answer: Answer) -> Answer:
        """The answer, or, of a document of another tenant, that there is none."""
        return answer if answer.body is None or self.owns(answer.body) else answer._replace(body=None)


def owner_of(caller: Caller, resource: Resource, tenant: Tenant) -> Owner:
    """Whose documents of a resource a caller sees. Raises a `Problem` if its credentials do not say."""
    text, kind = _claim(caller, tenant.claim), kind_of(tenant.field, resource)
    try:
        value = read(kind, text)
    except WrongValue:
        raise _unsaid(tenant.claim) from None
    return Owner(tenant.field, int(value) if kind in NUMBERS else str(value), value)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A field of a group whose value comes from credentials."""

    path: str
    kind: str
    claim: str

    def put_into(self, query: bytes, caller: Caller) -> bytes:
        """The query string with what the caller's credentials say. Raises a `Problem` if they do not, or if the query
        says something else."""
        text, rest = _claim(caller, self.claim), []
        for pair in query.split(b"&"):
            for name, value in parameters_of(pair):
                if not self._is_named(name):
                    rest.append(pair)
                elif text_of(value, name) != text or name not in (self.path, f"{self.path}:{self.kind}"):
                    raise other_tenant(f"{self.path}: the value of this caller's credentials is another.")
        own = f"{quote(self.path, safe='')}:{self.kind}={quote(text, safe='')}"
        return b"&".join((*rest, own.encode()))

    def _is_named(self, name: str) -> bool:
        return name.startswith(f"{self.path}:") or (name == self.path and name not in OURS)


def _claim(caller: Caller, claim: str) -> str:
    value = caller.claims.get(claim)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text or len(text) > LETTERS:
        raise _unsaid(claim)
    return text


def _unsaid(claim: str) -> Problem:
    return other_tenant(f"This caller's credentials do not say {claim}.")
