"""Every setting, with its unit and default: one module a section. The docs are checked against them.

A setting's name in the environment is `NEVERSTALE_` + section + `__` + field, in upper case; in
`neverstale.toml` it is `field` under `[section]`.
"""

from pathlib import Path

from pydantic import Field

from neverstale.settings.api import Api, Demands
from neverstale.settings.auditor import AuditorSettings
from neverstale.settings.callers import CallerSettings, Cors
from neverstale.settings.clients import Clients
from neverstale.settings.console import ConsoleSettings
from neverstale.settings.consumer import ConsumerSettings
from neverstale.settings.kafka import LONGEST_TOPIC, Kafka
from neverstale.settings.limits import Limits
from neverstale.settings.live import LiveSettings
from neverstale.settings.mongodb import MongoDB
from neverstale.settings.redis import RedisSettings
from neverstale.settings.section import SettingsSection
from neverstale.settings.service import Service
from neverstale.settings.watcher import WatcherSettings

__all__ = [
    "LONGEST_TOPIC",
    "Api",
    "AuditorSettings",
    "CallerSettings",
    "Clients",
    "ConsoleSettings",
    "ConsumerSettings",
    "Cors",
    "Demands",
    "Kafka",
    "Limits",
    "LiveSettings",
    "MongoDB",
    "RedisSettings",
    "Service",
    "Settings",
    "WatcherSettings",
]


class Settings(SettingsSection):
    """All settings. Built by `neverstale.settings.sources.load`, never at import."""

    catalog: Path = Field(Path("catalog.toml"), description="The catalog file.")
    mongodb: MongoDB = MongoDB()
    kafka: Kafka = Kafka()
    redis: RedisSettings = RedisSettings()
    watcher: WatcherSettings = WatcherSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    api: Api = Api()
    clients: Clients = Clients()
    callers: CallerSettings = CallerSettings()
    cors: Cors = Cors()
    limits: Limits = Limits()
    auditor: AuditorSettings = AuditorSettings()
    console: ConsoleSettings = ConsoleSettings()
    live: LiveSettings = LiveSettings()
    service: Service = Service()
