"""What the sections of the settings share."""

from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

Port = Annotated[int, Field(ge=0, le=65535)]


LeaseMs = Annotated[int, Field(gt=0, le=60_000)]
"""A longer lease is not believed, see `lease.lua`."""


class SettingsSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
