"""`/`: a page for people, which says what runs here and where to go on."""

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from neverstale import __version__
from neverstale.api.operators.pages import inside
from neverstale.api.web.paths import PREFIX
from neverstale.api.web.route_names import route_of
from neverstale.catalog import Catalog, Resource
from neverstale.settings.api import PublicPages

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; }
li { margin: .25rem 0; }
code { overflow-wrap: anywhere; }
"""
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def home(catalog: Catalog, public: PublicPages) -> Route:
    """The page of this catalog. It shows no data, and leads nowhere where there is nothing."""
    inner, outer = _page(catalog, "all"), _page(catalog, public)

    async def answer(request: Request) -> HTMLResponse:
        return HTMLResponse(inner if inside(request.scope) else outer, headers=_HEADERS)

    return Route("/", answer, methods=["GET"], include_in_schema=False)


def _page(catalog: Catalog, shown: PublicPages) -> str:
    docs = '<li><a href="/docs">Every request, with examples to try</a> (<a href="/openapi.json">OpenAPI</a>)</li>\n'
    inner = '<li><a href="/readyz">Whether this process is ready</a>, and <a href="/metrics">its metrics</a></li>\n'
    resources = "".join(_resource(resource) for resource in catalog.resources.values())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>neverstale</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>neverstale</h1>
<p>Documents of MongoDB, from a cache that knows how fresh it is. Every answer says how old it can be at most, in the
header <code>Neverstale-Bound</code>.</p>
<ul>
{docs if shown != "none" else ""}<li><a href="{PREFIX}freshness">How fresh the cache is now</a></li>
{inner if shown == "all" else ""}</ul>
<h2>What can be read of the database {escape(catalog.database)}</h2>
<ul>
{resources}</ul>
{f"<p>Version {escape(__version__)}</p>" if shown == "all" else ""}
</body>
</html>
"""


def _resource(resource: Resource) -> str:
    name = escape(resource.name)
    paths = [f"{PREFIX}{name}/{{key}}"]
    for one in resource.derived.derivations():
        route = escape(route_of(f"{resource.name}.{one.full_name}"))
        by = "&amp;".join(f"{escape(path)}=…" for path in one.declared.by)
        paths.append(f"{route}?{by}" if by and "{" not in route else route)
    shown = "".join(f"<li><code>{path}</code></li>" for path in paths)
    return f"<li><strong>{name}</strong><ul>{shown}</ul></li>\n"
