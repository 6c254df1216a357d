"""Watcher groups, each a whole pipeline: a stream, a topic, a consumer group, watermarks.

What belongs to the default group is named as the settings say; what belongs to another has the group's name behind a
dot:

| of the group `orders`            | name                                               |
|----------------------------------|----------------------------------------------------|
| topic, topic of dead letters     | `neverstale.changes.orders`, `….orders.dead`       |
| consumer group                   | `neverstale.orders`; offsets, watermarks, accounts |
| lease, checkpoint, heartbeat     | `default.orders`, behind `lease:` and `checkpoint:` |
| derived data of its resources    | `{resource}@orders`                                |

So whoever is given the settings and the catalog of one group needs to know nothing of the others.
"""

from dataclasses import dataclass
from typing import Final

from neverstale.catalog import Catalog
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Misconfigured
from neverstale.misconfiguration import did_you_mean
from neverstale.settings import LONGEST_TOPIC, Kafka, Settings

LONGEST_ENDING: Final = ".dead"
"""What the topic of dead letters has behind the name of the topic."""


@dataclass(frozen=True, slots=True)
class WatcherGroup:
    """One group, with settings and catalog narrowed to it."""

    name: str
    settings: Settings
    catalog: Catalog


def watcher_groups(settings: Settings, catalog: Catalog) -> tuple[WatcherGroup, ...]:
    """All groups of a catalog, the default group first."""
    return tuple(_group(settings, catalog, name) for name in catalog.groups)


def watched_group(settings: Settings, catalog: Catalog) -> WatcherGroup:
    """The group that `watcher.watches` names. Raises `Misconfigured`."""
    (found,) = named_groups(settings, catalog, "watcher.watches", (settings.watcher.watches,))
    return found


def consumed_groups(settings: Settings, catalog: Catalog) -> tuple[WatcherGroup, ...]:
    """The groups that `consumer.consumes` names, or all. Raises `Misconfigured`."""
    wanted = tuple(name.strip() for name in settings.consumer.consumes.split(",") if name.strip())
    return named_groups(settings, catalog, "consumer.consumes", wanted or tuple(catalog.groups))


def settings_of(settings: Settings, group: str) -> Settings:
    """The settings with the names that things of one group have."""
    if group == DEFAULT_GROUP:
        return settings
    kafka, watcher = settings.kafka, settings.watcher
    return settings.model_copy(
        update={
            "kafka": kafka_of(kafka, group),
            "watcher": watcher.model_copy(update={"group": f"{watcher.group}.{group}"}),
        }
    )


def kafka_of(kafka: Kafka, group: str) -> Kafka:
    """Section `kafka` with the topics and the consumer group of one watcher group. Raises `Misconfigured`."""
    if group == DEFAULT_GROUP:
        return kafka
    topic = f"{kafka.topic}.{group}"
    dead = f"{kafka.dead_topic}.{group}" if kafka.dead_topic is not None else None
    if len(dead or topic + LONGEST_ENDING) > LONGEST_TOPIC:
        problem = f"is too long to have the name of the watcher group {group} appended"
        raise Misconfigured("kafka.topic", problem, "shorten it")
    return kafka.model_copy(update={"topic": topic, "dead_topic": dead, "group": f"{kafka.group}.{group}"})


def named_groups(
    settings: Settings, catalog: Catalog, setting: str, names: tuple[str, ...]
) -> tuple[WatcherGroup, ...]:
    """The groups with these names, which `setting` has. Raises `Misconfigured` for one that the catalog lacks."""
    groups = catalog.groups
    for name in names:
        if name not in groups:
            problem = f"the catalog has no collection in a watcher group {name!r}"
            raise Misconfigured(setting, problem, did_you_mean(name, groups))
    return tuple(_group(settings, catalog, name) for name in dict.fromkeys(names))


def _group(settings: Settings, catalog: Catalog, name: str) -> WatcherGroup:
    return WatcherGroup(name, settings_of(settings, name), catalog.of_group(name))
