"""What administrators paste is made of their own catalog and settings."""

import json

import pytest

from neverstale.catalog import Catalog
from neverstale.ops.privileges.pages import document, pages_of, print_pages
from neverstale.settings import Settings

CATALOG = Catalog.model_validate(
    {
        "database": "shop",
        "watchers": {"busy": {"collections": ["orders"]}},
        "resources": {name: {"key_type": "string"} for name in ("orders", "customers")},
    }
)
SETTINGS = Settings.model_validate({"redis": {"url": "redis+cluster://n1:6379", "prefix": "ours"}})


def test_names_of_the_catalog_of_all_watcher_groups_and_of_the_settings_are_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_pages(pages_of(SETTINGS, CATALOG), as_json=False)
    text = capsys.readouterr().out
    for line in (
        'db: "shop", collection: "customers"',
        "--topic neverstale.changes.busy",
        "--topic neverstale.changes.dead",
        "--group neverstale.busy",
        "~ours:role:watcher:* +asking",
        "+ssubscribe",
    ):
        assert line in text
    assert "Redis Cluster: users" in text and "Redis: users" not in text


def test_as_json_it_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    pages = pages_of(SETTINGS, CATALOG)
    print_pages(pages, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [(one["title"], one["lines"]) for one in told] == [(one.title, one.lines) for one in pages]


def test_the_docs_show_redis_in_all_its_layouts() -> None:
    text = document()
    assert text.count("ACL SETUSER neverstale-api") == 3
    assert "+spublish" in text and "&ns:{*}:announcements" in text and "&ns:announcements" in text
