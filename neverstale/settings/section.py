"""What the sections of the settings share."""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
)

from neverstale.misconfiguration import wrong

Port = Annotated[int, Field(ge=0, le=65535)]


LeaseMs = Annotated[int, Field(gt=0, le=60_000)]
"""A longer lease is not believed, see `lease.lua`."""


class SettingsSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


CaFile = Annotated[Path | None, Field(description="PEM: authorities to trust, and no others; default: the system's.")]
CertFile = Annotated[Path | None, Field(description="PEM: our certificate, where the server wants to see one.")]
KeyFile = Annotated[Path | None, Field(description="PEM: its private key; default: it lies in the same file.")]
KeyPassword = Annotated[SecretStr | None, Field(description="Password of the private key, if it has one.")]
CheckHostname = Annotated[
    bool, Field(description="Whether the server's certificate must name the host that we ask for.")
]

_TLS: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password")


def refuse_wrong_tls(section: Any, *, used: bool, remedy: str) -> None:
    """For the validator of a section with the five settings of TLS; `used`: whether the link has TLS at all."""
    for name in _TLS:
        value = getattr(section, name)
        if value is None:
            continue
        if isinstance(value, Path) and not value.is_file():
            raise wrong(f"there is no file {value}", "name a readable PEM file", name)
        if not used:
            raise wrong("has no effect without TLS", remedy, name)
        if name in ("ssl_keyfile", "ssl_key_password") and section.ssl_certfile is None:
            raise wrong("has no effect without a certificate", "set ssl_certfile, too, or remove it", name)
