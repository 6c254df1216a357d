"""Section `api`: how reads are answered."""

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from neverstale.misconfiguration import wrong
from neverstale.settings.section import LeaseMs, Port, SettingsSection

Demands = Literal["all", "limited", "none"]


PublicPages = Literal["none", "docs", "all"]


class Api(SettingsSection):
    host: str = Field("127.0.0.1", description="Address to bind.")
    port: Port = Field(8000, description="Port to bind.")
    workers: PositiveInt = Field(1, description="Processes.")
    public_pages: PublicPages = Field(
        "none",
        description="What this port shows besides reads, `/livez` and whether the process is ready: `docs`: `/docs`"
        " and `/openapi.json`; `all`: also `/metrics` and the details of `/readyz`. All of it is on `service.port`.",
    )
    lease_ms: LeaseMs = Field(2000, description="Life of a lease: the longest time a fill may take.")
    wait_ms: PositiveInt = Field(500, description="How long a miss waits for another's fill before it reads MongoDB.")
    mongodb_concurrency: PositiveInt = Field(16, description="Reads of MongoDB under way at once, per process.")
    mongodb_queue: PositiveInt = Field(2000, description="Reads waiting for MongoDB; more are refused with 503.")
    queue_deadline_ms: PositiveInt = Field(1000, description="A read that waited longer is refused with 503.")
    unknown_percent: int = Field(
        50,
        ge=1,
        le=100,
        description="Share of these reads, and of those waiting, that keys not known to have a document may take.",
    )
    demands: Demands = Field(
        "limited",
        description="Reads of MongoDB that requests demand (no-cache, max-age, Neverstale-Min-Version): `all`: as any"
        " other; `limited`: only a share of them at once; `none`: 403 where the cache does not meet the demand.",
    )
    demanded_percent: int = Field(
        25, ge=1, le=100, description="Share of the reads, and of those waiting, that limited demands may take."
    )
    absences_per_second: PositiveFloat = Field(
        200, description="Absent documents and empty pages that each process newly keeps in Redis."
    )
    aggregations: PositiveInt = Field(
        2, description="Counts and rankings asked of MongoDB at once, per process, where Redis does not know them."
    )
    aggregation_queue: PositiveInt = Field(100, description="More of them that wait are refused with 503.")
    aggregation_timeout_ms: PositiveInt = Field(2000, description="MongoDB gives up on one after this: a 503.")
    aggregation_kept_ms: NonNegativeInt = Field(
        1000, description="What MongoDB has counted answers others for so long, with a bound that grows."
    )
    exports: PositiveInt = Field(2, description="Exports under way at once, per process; more are refused with 503.")
    export_bytes_per_second: PositiveInt = Field(
        64 << 10, description="An export that is read more slowly is broken off when another one wants its place."
    )
    export_stall_seconds: PositiveFloat = Field(
        30, description="An export whose client reads nothing for so long is broken off."
    )
    cursor_secret: SecretStr | None = Field(
        None,
        min_length=16,
        max_length=64,
        description="Signs cursors, the same in all API processes; without it callers can make cursors of their own.",
    )
    freshness_interval_ms: PositiveInt = Field(
        50, description="Period at which watermarks are fetched; five times as long while nobody writes or reads."
    )
    l1_bytes: NonNegativeInt = Field(
        128 << 20, description="Answers kept in the memory of each process, in bytes; 0: none."
    )
    channel_silence_ms: PositiveInt = Field(
        3000, description="Announcements silent for longer void what is kept in memory; above watcher.heartbeat_ms."
    )
    breaker_failures: PositiveInt = Field(3, description="Consecutive Redis failures that open the breaker.")
    warm_reads_per_second: PositiveFloat = Field(
        200, description="Pages and documents read to warm the cache, as the catalog says."
    )
    warm_deadline_seconds: float = Field(
        30,
        ge=0,
        description="So long an API that warms the cache at its start is not ready; 0: it is at once.",
    )
    reads_flush_ms: PositiveInt = Field(
        1000, description="Reads are added to the most-read documents this often; a crash loses those since."
    )
    reads_half_life_seconds: PositiveFloat = Field(
        3600, description="After this a read counts half among the most read."
    )
    breaker_open_ms: PositiveInt = Field(500, description="An open breaker lets one probe through after this.")
    notice_ms: NonNegativeInt = Field(
        500, description="After SIGTERM: /readyz says 503 and answers `Connection: close` for so long, then it stops."
    )

    @model_validator(mode="after")
    def _waiting_ends_with_the_lease(self) -> Self:
        if self.wait_ms > self.lease_ms:
            raise wrong(
                f"{self.wait_ms} is above api.lease_ms ({self.lease_ms})",
                "lower it: after the lease there is no fill to wait for",
                "wait_ms",
            )
        return self
