"""Section `clients`: what each connection to the API may take."""

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
)

from neverstale.settings.section import SettingsSection


class Clients(SettingsSection):
    connections: PositiveInt = Field(
        10_000, description="Of each process; the next one is told 503 and closed. Idle ones cost about 10 KB each."
    )
    head_bytes: PositiveInt = Field(
        64 << 10, description="A request line and header lines may have so many; so may trailers. More are a 431."
    )
    head_lines: PositiveInt = Field(256, description="Header lines of a request; more are a 431.")
    head_seconds: PositiveFloat = Field(
        10, description="From a head's first byte to its last (else 408), and from a connection to its first head."
    )
    body_bytes: PositiveInt = Field(
        256 << 10,
        description="Of a request's body, which is thrown away unless it names keys; a longer one is a 413. It must"
        " arrive within `clients.head_seconds`.",
    )
    keep_alive_seconds: float = Field(
        5, ge=0, description="After an answer the next head must begin within this, whatever else is sent."
    )
    stall_seconds: PositiveFloat = Field(
        20, description="A client that takes less than 16 KiB of its answer within this is cut off."
    )
    heard_bytes: PositiveInt = Field(
        32 << 20,
        description="Held by each process of what clients have sent and nobody has answered yet (parts of heads, "
        "what waits behind a request); beyond it those are cut off that hold something for longest.",
    )
    answer_bytes: PositiveInt = Field(
        32 << 20, description="Documents of one answer to `keys=` may have so many together; more are a 413."
    )
    unread_bytes: PositiveInt = Field(
        32 << 20,
        description="Held by each process for clients that have not read it yet; then those that take nothing are "
        "cut off, and large answers refused with 503.",
    )
