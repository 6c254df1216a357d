"""Section `limits`: how often a caller may ask."""

from typing import Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
)

from neverstale.settings.section import SettingsSection


class Limits(SettingsSection):
    requests_per_second: float = Field(
        0, ge=0, le=1_000_000, description="Of each caller, in the mean, by all processes together; 0: no limit."
    )
    burst: PositiveInt = Field(100, description="So many at once, after a pause.")
    key_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Callers are told apart by this header, which a gateway has checked; without it by address.",
    )
    trusted_proxies: NonNegativeInt = Field(
        0, description="So many proxies of yours append to X-Forwarded-For on the way here; 0: it is not believed."
    )
    without_redis: Literal["open", "closed"] = Field(
        "open", description="open: each process counts for itself while Redis is away; closed: 503."
    )
    reserve: PositiveInt = Field(
        100, description="Tokens a process takes at once for a busy caller; at most a quarter of the burst."
    )
