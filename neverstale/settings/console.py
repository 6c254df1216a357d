"""Section `console`: the page that shows what the pipeline does."""

from pydantic import Field, PositiveInt

from neverstale.settings.section import Port, SettingsSection


class ConsoleSettings(SettingsSection):
    host: str = Field(
        "127.0.0.1",
        description="Address of the page. It asks nobody who he is: leave it on loopback, or behind a proxy.",
    )
    port: Port = Field(8010, description="Port of the page; 0: a free one, logged at start.")
    period_ms: PositiveInt = Field(
        1000, description="Everything is looked at this often while somebody watches; else five times more seldom."
    )
