"""All routes of the API."""

from collections.abc import Collection, Mapping
from functools import cache, partial
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.access import NOTHING, Reads
from neverstale.api.callers.middleware import DecidedRoute, undeclared, visit_of
from neverstale.api.callers.scopes import Kind
from neverstale.api.endpoints import most_read, openapi, queries
from neverstale.api.endpoints.asgi_route import get_and_head, post_and_query
from neverstale.api.endpoints.audits import audits_of
from neverstale.api.endpoints.derived.kinds import routes_of
from neverstale.api.endpoints.documents import DocumentEndpoints, watched
from neverstale.api.endpoints.elsewhere import Elsewhere
from neverstale.api.endpoints.export import Export, Lines, fields_parameter
from neverstale.api.endpoints.home import home
from neverstale.api.endpoints.most_read import MostRead
from neverstale.api.endpoints.openapi_live import LAST_EVENT_ID, or_live
from neverstale.api.endpoints.openapi_views import view_parameters
from neverstale.api.endpoints.preflight import PreflightRoute
from neverstale.api.endpoints.queries import QueryEndpoint
from neverstale.api.freshness.watermark import OTHER_CATALOG, Freshness
from neverstale.api.linked.view import Views
from neverstale.api.live.endpoint import LiveOr
from neverstale.api.operators.pages import inner_routes
from neverstale.api.state import state_of
from neverstale.api.web.paths import PREFIX, no_parameters
from neverstale.api.web.problems import switched_off
from neverstale.catalog import Catalog, Resource
from neverstale.mongodb.kinds import Kinds
from neverstale.role.service import Health
from neverstale.settings.api import PublicPages
from neverstale.versions import to_hex


def add_routes(app: FastAPI, catalog: Catalog, health: Health, public: PublicPages) -> None:
    """All routes; the paths below `/v1/` must come undecoded (see `neverstale.api.web.paths.UndecodedPaths`)."""
    read: list[BaseRoute] = []
    for resource in catalog.resources.values():
        read.append(_one(resource, catalog.resources))
        read.append(_many(resource, catalog.resources))
        read.append(_by_body(resource, catalog.resources))
        read += _most_read(resource) if resource.most_read else _off(resource, "most-read", "most_read")
        read += [_export(resource)] if resource.export else _off(resource, "export", "export")
        read += routes_of(resource, catalog.resources)
    read.append(_several(catalog.resources))
    read.append(
        get_and_head(
            f"{PREFIX}freshness",
            _freshness_of(catalog),
            lambda: openapi.FreshnessModel,
            reads=NOTHING,
            summary="How fresh the cache is",
            operation_id="get_freshness",
            tags=["freshness"],
        )
    )
    elsewhere = Elsewhere(catalog, read)
    app.router.routes += [
        home(catalog, public),
        *read,
        *inner_routes(app, health, public),
        PreflightRoute(f"{PREFIX}{{rest:path}}", read, elsewhere),
        DecidedRoute(f"{PREFIX}{{rest:path}}", elsewhere, reads=NOTHING),
    ]
    assert not (forgotten := undeclared(app.router.routes)), f"nobody has said what {forgotten} reads"


def _off(resource: Resource, path: Kind, field: str) -> list[BaseRoute]:
    """What stands where the catalog wants nothing to be: no document is meant either."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise switched_off(resource.name, f"{field} = false", path)

    own = f"{PREFIX}{resource.name}/-/{path}"
    reads = Reads(resource.name, path)
    return [DecidedRoute(each, _Asgi(refuse), reads=reads, methods=["GET"]) for each in (own, own + "/{rest:path}")]


class _Asgi:
    """An endpoint that Starlette calls as an application, since it is no function."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _one(resource: Resource, resources: Mapping[str, Resource]) -> BaseRoute:
    return get_and_head(
        f"{PREFIX}{resource.name}/{{key}}",
        LiveOr(DocumentEndpoints(resource, resources).one, watched(resource, resources)),
        partial(openapi.document_model, resource),
        reads=Reads(resource.name),
        summary=f"One document of {resource.name}",
        operation_id=f"get_{resource.name}",
        tags=[resource.name],
        responses=or_live(openapi.answers(absent=True)),
        openapi_extra={
            "parameters": [
                openapi.key_parameter(resource),
                *view_parameters(resource, resources),
                *openapi.DEMANDS,
                LAST_EVENT_ID,
            ]
        },
    )


def _many(resource: Resource, resources: Mapping[str, Resource]) -> BaseRoute:
    return get_and_head(
        f"{PREFIX}{resource.name}",
        DocumentEndpoints(resource, resources).many,
        partial(_items_model, resource),
        reads=Reads(resource.name),
        summary=f"Several documents of {resource.name}, in the order of their keys",
        operation_id=f"get_many_{resource.name}",
        tags=[resource.name],
        responses=openapi.answers(absent=False),
        openapi_extra={
            "parameters": [
                openapi.keys_parameter(resource),
                *view_parameters(resource, resources),
                *openapi.DEMANDS,
            ]
        },
    )


def _by_body(resource: Resource, resources: Mapping[str, Resource]) -> BaseRoute:
    endpoint = QueryEndpoint({resource.name: Views(resource, resources)}, several=False)
    return post_and_query(
        f"{PREFIX}{resource.name}",
        endpoint,
        partial(_items_model, resource),
        summary=f"Many documents of {resource.name}, with their keys in the body; `QUERY` does the same",
        operation_id=f"query_{resource.name}",
        tags=[resource.name],
        reads=Reads(resource.name),
        responses=openapi.answers(absent=False) | openapi.BODY_ANSWERS,
        openapi_extra={"requestBody": queries.body_of(resource, resources), "parameters": openapi.DEMANDS},
    )


def _items_model(resource: Resource) -> type[BaseModel]:
    return openapi.items_model(resource, openapi.document_model(resource))


def _several(resources: Mapping[str, Resource]) -> BaseRoute:
    endpoint = QueryEndpoint({name: Views(one, resources) for name, one in resources.items()}, several=True)

    def model() -> type[BaseModel]:
        return queries.several_model({name: _items_model(one) for name, one in resources.items()})

    return post_and_query(
        f"{PREFIX}-/documents",
        endpoint,
        model,
        summary="Documents of several resources at once; `QUERY` does the same",
        operation_id="query_documents",
        tags=["documents"],
        reads=NOTHING,  # before it is known what of: the endpoint decides
        responses=openapi.answers(absent=False) | openapi.BODY_ANSWERS,
        openapi_extra={"requestBody": queries.body_of_several(resources), "parameters": openapi.DEMANDS},
    )


def _most_read(resource: Resource) -> list[BaseRoute]:
    endpoints, count = MostRead(resource), cache(partial(most_read.count_model, resource))
    path = f"{PREFIX}{resource.name}/-/most-read"
    return [
        get_and_head(
            path,
            endpoints.top,
            lambda: most_read.top_model(resource, count()),
            reads=Reads(resource.name, "most-read", split=False),
            summary=f"The documents of {resource.name} that are read most",
            operation_id=f"get_{resource.name}_most_read",
            tags=[resource.name],
            responses=openapi.plain_answers(absent=False),
            openapi_extra={"parameters": [most_read.LIMIT]},
        ),
        get_and_head(
            path + "/{key}",
            endpoints.one,
            count,
            reads=Reads(resource.name, "most-read", split=False),
            summary=f"How often a document of {resource.name} is read",
            operation_id=f"get_{resource.name}_reads",
            tags=[resource.name],
            responses=openapi.plain_answers(absent=True),
            openapi_extra={"parameters": [openapi.key_parameter(resource)]},
        ),
    ]


def _export(resource: Resource) -> BaseRoute:
    return get_and_head(
        f"{PREFIX}{resource.name}/-/export",
        Export(resource),
        partial(openapi.document_model, resource),
        reads=Reads(resource.name, "export"),
        summary=f"All documents of {resource.name}, one a line, straight from MongoDB",
        operation_id=f"export_{resource.name}",
        tags=[resource.name],
        response_class=Lines,
        responses=openapi.streamed_answers(),
        openapi_extra={"parameters": [fields_parameter(resource)]},
    )


def _freshness_of(catalog: Catalog) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        no_parameters(scope["query_string"])
        # The resources of a watcher group share one topic, so they share its watermark.
        freshness = state_of(scope).freshness
        told = {group: _told_of(one) for group, one in freshness.groups.items()}
        kinds, reasons = state_of(scope).kinds, state_of(scope).refusing.reasons
        seen = [one for one in catalog.resources.values() if visit_of(scope).may_see(one.name)]
        found = await audits_of(state_of(scope).hits)
        resources = {
            one.name: told[one.watcher_group]
            | _less_of(one, kinds, reasons, freshness.of(one.name).lacks)
            | found.get(one.name, {})
            for one in seen
        }
        note = state_of(scope).apply_ops.note
        body = orjson.dumps({"resources": resources, "notes": [note] if note is not None else []})
        headers = {"cache-control": "no-store"}
        await Response(body, headers=headers, media_type="application/json")(scope, receive, send)

    return answer


def _told_of(freshness: Freshness) -> dict[str, Any]:
    """What is said of every resource of a watcher group."""
    watermark = freshness.watermark
    return {
        "watermark": to_hex(watermark) if watermark is not None else None,
        "bound": freshness.bound(watermark) if watermark is not None else None,
        "why": freshness.why,
        "watcher_group": freshness.watches,
    }


def _less_of(resource: Resource, kinds: Kinds, reasons: Mapping[str, str], lacks: Collection[str]) -> dict[str, Any]:
    """What is worse with this resource than with others."""
    kind = kinds.last(resource.collection)
    less: dict[str, Any] = {}
    if kind is not None and not kind.bounded:
        less = {"watermark": None, "bound": None, "why": f"nothing of it is cached: {kind.why(resource.collection)}"}
    elif resource.name in lacks:
        less = {"watermark": None, "bound": None, "why": f"nothing of it is cached: {OTHER_CATALOG}"}
    refused = {
        source: reason
        for source, reason in reasons.items()
        if source == resource.name or source.startswith(f"{resource.name}.")
    }
    return less | {"refused": refused} if refused else less
