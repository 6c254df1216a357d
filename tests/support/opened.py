"""What the API's lifespan opens (`neverstale.api.state`), handed to an application where no server runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.access import Access
from neverstale.api.callers.addresses import Addresses
from neverstale.api.callers.cross_origin import CrossOrigin
from neverstale.api.callers.gate import Gate
from neverstale.api.callers.identify import Callers
from neverstale.api.state import STATE, State
from neverstale.settings import CallerSettings, Cors, Limits


def opened(**parts: Any) -> State:
    """A state of which only these parts are used. All is open, unless a gate says otherwise."""
    return State(**{part.name: None for part in fields(State)} | {"gate": open_gate()} | parts)


def open_gate() -> Gate:
    """Lets everybody have everything."""
    return Gate(Access(CallerSettings(), {}), Callers(CallerSettings()), Addresses(Limits()), CrossOrigin(Cors()))


@asynccontextmanager
async def opened_by(app: FastAPI) -> AsyncIterator[State]:
    """What the application's lifespan opens, until the end of the block."""
    async with app.router.lifespan_context(app) as lifespan:
        assert lifespan is not None
        state: State = lifespan[STATE]
        yield state


def carrying(app: ASGIApp, state: State) -> ASGIApp:
    """The application behind a server that hands this state to every request."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {**scope.get("state", {}), STATE: state}}, receive, send)

    return served


def ordinary(app: ASGIApp, state: State) -> ASGIApp:
    """The same, but no request takes the fast path."""
    return carrying(app, replace(state, hot=None))
