"""Section `service`: what every role has besides its work."""

from typing import Literal

from pydantic import (
    Field,
    PositiveFloat,
)

from neverstale.settings.section import Port, SettingsSection


class Service(SettingsSection):
    host: str = Field(
        "127.0.0.1", description="Address of a role's own /livez, /readyz and /metrics, and of an API's /docs."
    )
    port: Port = Field(0, description="Port of the same; 0: a free one, logged at start.")
    drain_seconds: PositiveFloat = Field(10, description="Deadline of an orderly stop after SIGTERM.")
    reload_catalog: bool = Field(
        True, description="Take up a catalog file that changed, by starting again in place; SIGHUP does it anyway."
    )
    traced_share: float = Field(
        0,
        ge=0,
        le=1,
        description="Share of batches and requests that are traced, by OpenTelemetry's OTLP over HTTP; 0: none. Wants"
        " `pip install neverstale[traces]`; where to send them say OpenTelemetry's own variables (OTEL_...).",
    )
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto: text on a terminal, else JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
