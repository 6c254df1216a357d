"""What a request for a stream watches: the same documents, pages and figures, named in the same way, as its `GET`."""

from collections.abc import Mapping

from starlette.types import Scope

from neverstale.api.derived.counters import CounterSource
from neverstale.api.derived.rankings import RankingSource
from neverstale.api.endpoints.derived import CounterEndpoint, RankEndpoint, RankingEndpoint
from neverstale.api.hits.request_lines import page_of
from neverstale.api.linked.parameters import view_of
from neverstale.api.linked.view import Views
from neverstale.api.live.endpoint import SubjectOf
from neverstale.api.live.subjects import DocumentSubject, FigureSubject, LiveSubject, LookupSubject, PageSubject
from neverstale.api.state import state_of
from neverstale.api.web.paths import key_of, no_parameters
from neverstale.api.web.problems import unknown_key, unranked
from neverstale.api.web.query import looked_up
from neverstale.catalog import Resource


def document_of(resource: Resource, resources: Mapping[str, Resource]) -> SubjectOf:
    """`GET /v1/{resource}/{key}?expand=…&fields=…`."""
    absence, views = unknown_key(resource.name).body, Views(resource, resources)

    def subject(scope: Scope) -> LiveSubject:
        view, query = view_of(scope, views)
        no_parameters(query)
        key, state = key_of(scope["path_params"]["key"], resource), state_of(scope)
        return DocumentSubject(state, state.sources.documents[resource.name], key, view, absence)

    return subject


def page_at(resource: Resource, list_name: str, resources: Mapping[str, Resource]) -> SubjectOf:
    """`GET /v1/{resource}/-/lists/{list}?by…&cursor=…&expand=…&fields=…`."""
    views = Views(resource, resources)

    def subject(scope: Scope) -> LiveSubject:
        state = state_of(scope)
        pages = state.sources.pages[resource.name, list_name]
        view, query = view_of(scope, views)
        return PageSubject(state, pages, page_of(pages, query), view)

    return subject


def value_of(resource: Resource, path: str) -> SubjectOf:
    """`GET /v1/{resource}/-/by/{field}/{value}`."""

    def subject(scope: Scope) -> LiveSubject:
        no_parameters(scope["query_string"])
        state = state_of(scope)
        source = state.sources.lookups[resource.name, path]
        return LookupSubject(state, source, source.key(looked_up(scope["path_params"]["value"], path, resource)))

    return subject


def count_of(counts: CounterSource) -> SubjectOf:
    """`GET /v1/{resource}/-/counters/{counter}?by…`."""
    endpoint = CounterEndpoint(counts)
    return lambda scope: FigureSubject(state_of(scope), counts, endpoint.key(scope["query_string"]))


def ranking_of(ranks: RankingSource) -> SubjectOf:
    """`GET /v1/{resource}/-/rankings/{ranking}?by…`."""
    endpoint = RankingEndpoint(ranks)
    return lambda scope: FigureSubject(state_of(scope), ranks, endpoint.key(scope["query_string"]))


def rank_of(ranks: RankingSource) -> SubjectOf:
    """`GET /v1/{resource}/-/rankings/{ranking}/{key}?by…`."""
    endpoint, absence = RankEndpoint(ranks), unranked(ranks.resource.name).body

    def subject(scope: Scope) -> LiveSubject:
        key = endpoint.key(scope["path_params"]["key"], scope["query_string"])
        return FigureSubject(state_of(scope), ranks, key, absence)

    return subject
