"""Section `consumer`."""

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
)

from neverstale.settings.section import LeaseMs, SettingsSection


class ConsumerSettings(SettingsSection):
    consumes: str = Field(
        "", description="Comma-separated watcher groups of the catalog whose changes it applies; empty: all."
    )
    max_batch: PositiveInt = Field(8000, description="Records applied together.")
    commit_interval_ms: PositiveInt = Field(500, description="Offsets of applied records are committed this often.")
    replay_seconds: PositiveInt = Field(
        900, description="What a Redis lacks is applied to it again; if that is older, all it holds is void instead."
    )
    dead_letters_per_second: PositiveFloat = Field(
        10, description="Unreadable records that are kept as dead letters, in the mean; all invalidate."
    )
    dead_letters_burst: PositiveInt = Field(1000, description="So many at once may exceed that.")
    version_tolerance_seconds: PositiveFloat = Field(
        5, description="A version further ahead of MongoDB's clock is believed only if MongoDB says so when asked."
    )
    lease_ms: LeaseMs = Field(3000, description="Life of a lease that a refresh holds.")
    refresh_concurrency: PositiveInt = Field(4, description="Refresh reads of MongoDB under way at once.")
    refresh_queue: PositiveInt = Field(10_000, description="Refreshes waiting; more are dropped (a miss, no harm).")
