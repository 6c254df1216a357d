"""Section `watcher`."""

from typing import Self

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from neverstale.misconfiguration import wrong
from neverstale.settings.section import SettingsSection


class WatcherSettings(SettingsSection):
    group: str = Field(
        "default", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Watchers of one group share a position."
    )
    watches: str = Field(
        "default", min_length=1, description="Watcher group of the catalog (`[watchers.NAME]`) that this one is of."
    )
    lease_ms: PositiveInt = Field(2000, description="A silent watcher loses its place to a standby after this.")
    heartbeat_ms: PositiveInt = Field(1000, description="Period of the heartbeat write; an idle bound stays near it.")
    mark_interval_ms: PositiveInt = Field(50, description="Marks are at least this far apart under load.")
    max_await_ms: PositiveInt = Field(1000, description="How long the server may hold an empty getMore.")
    batch_size: PositiveInt = Field(5000, description="Change events per getMore.")
    gather_ms: float = Field(0, ge=0, description="Pause between getMores under load; trades latency for CPU.")
    checkpoint_interval_ms: PositiveInt = Field(200, description="Positions are stored at most this often.")
    max_in_flight_batches: PositiveInt = Field(8, description="Batches read but not yet acknowledged by Kafka.")

    @model_validator(mode="after")
    def _marks_come_between_heartbeats(self) -> Self:
        if self.mark_interval_ms > self.heartbeat_ms:
            raise wrong(
                f"{self.mark_interval_ms} is above watcher.heartbeat_ms ({self.heartbeat_ms})",
                "lower it: each heartbeat is followed by a mark",
                "mark_interval_ms",
            )
        return self
