"""Watcher groups: what the things of each are called."""

import pytest

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.settings import ConsumerSettings, Kafka, Settings, WatcherSettings
from neverstale.watcher_groups import consumed_groups, settings_of, watched_group, watcher_groups

CATALOG = Catalog.model_validate(
    {
        "database": "shop",
        "resources": {"flights": {"key_type": "string"}, "orders": {"key_type": "int"}, "bills": {"key_type": "int"}},
        "watchers": {"orders": {"collections": ["orders"]}, "bills": {"collections": ["bills"]}},
    }
)
SETTINGS = Settings()


def test_the_default_group_has_the_names_of_the_settings() -> None:
    assert settings_of(SETTINGS, "default") == SETTINGS


def test_no_two_groups_share_a_name() -> None:
    groups = [settings_of(SETTINGS, name) for name in ("default", "orders", "bills")]
    for named in ("topic", "dead_topic_name", "group"):
        assert len({getattr(one.kafka, named) for one in groups}) == len(groups), named
    assert len({one.watcher.group for one in groups}) == len(groups)


def test_a_group_s_name_is_behind_those_of_the_settings() -> None:
    of = settings_of(SETTINGS, "orders")
    assert of.kafka.topic == "neverstale.changes.orders"
    assert of.kafka.dead_topic_name == "neverstale.changes.orders.dead"
    assert of.kafka.group == "neverstale.orders"
    assert of.watcher.group == "default.orders"
    named = Settings(kafka=Kafka(dead_topic="letters"))
    assert settings_of(named, "orders").kafka.dead_topic_name == "letters.orders"


def test_each_group_has_its_own_resources() -> None:
    found = {one.name: list(one.catalog.resources) for one in watcher_groups(SETTINGS, CATALOG)}
    assert found == {"default": ["flights"], "orders": ["orders"], "bills": ["bills"]}


def test_a_consumer_consumes_all_groups_or_those_that_it_is_told() -> None:
    def consumed(text: str) -> list[str]:
        return [one.name for one in consumed_groups(Settings(consumer=ConsumerSettings(consumes=text)), CATALOG)]

    assert consumed("") == ["default", "orders", "bills"]
    assert consumed("bills, default,bills") == ["bills", "default"]
    with pytest.raises(Misconfigured, match=r"consumer\.consumes.*'order'.*did you mean orders"):
        consumed("order")


def test_a_watcher_watches_one_group_that_has_collections() -> None:
    assert watched_group(SETTINGS, CATALOG).name == "default"
    of = Settings(watcher=WatcherSettings(watches="orders"))
    assert watched_group(of, CATALOG).catalog.collections == ("orders",)
    empty = CATALOG.of_group("orders")
    with pytest.raises(Misconfigured, match=r"watcher\.watches.*'default'"):
        watched_group(SETTINGS, empty)


def test_a_topic_that_becomes_too_long_is_refused() -> None:
    with pytest.raises(Misconfigured, match="too long"):
        settings_of(Settings(kafka=Kafka(topic="x" * 240)), "orders")
