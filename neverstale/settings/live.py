"""Section `live`: streams of states."""

from pydantic import Field, NonNegativeInt, PositiveInt

from neverstale.settings.section import SettingsSection


class LiveSettings(SettingsSection):
    streams: NonNegativeInt = Field(
        8_000, description="Live reads under way at once, per process; more are refused with 503. 0: none, a 403."
    )
    streams_per_caller: NonNegativeInt = Field(
        1_000, description="Of these, so many of one caller (see `limits`); more are refused with 429. 0: no limit."
    )
    bound_interval_ms: int = Field(
        1000, ge=100, le=15_000, description="A stream says at least this often how old its state can be at most."
    )
    state_interval_ms: NonNegativeInt = Field(
        20, description="States of one thing are at least this far apart; those in between are left out."
    )
    unheard_interval_ms: int = Field(
        2000, ge=100, description="What is watched is read this often while announcements of it cannot be heard."
    )
    retry_ms: PositiveInt = Field(
        1000, description="A browser whose stream has ended comes back after about so long (`retry:`)."
    )
