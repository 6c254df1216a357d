"""The auditor: how much it asks, and what that may cost."""

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr

from neverstale.settings.section import SettingsSection


class AuditorSettings(SettingsSection):
    reads_per_second: PositiveFloat = Field(
        200, description="Documents, pages and figures that the auditor asks the API for, at most."
    )
    share_percent: PositiveFloat = Field(
        100,
        description="They are at most this share of what readers ask for, where `/metrics` of the API tells that; "
        "but at least 20 a second.",
    )
    mongodb_reads_per_second: PositiveFloat = Field(
        25, description="Reads of MongoDB that the auditor compares answers with, at most."
    )
    urls: str = Field(
        "",
        description="Comma-separated addresses of APIs to ask; default: those that APIs name themselves in Redis.",
    )
    bearer: SecretStr | None = Field(
        None, description="Key or token that the auditor and `neverstale why` show to APIs that want one."
    )
    again_seconds: PositiveFloat = Field(
        10, description="After this a wrong answer is asked for again: what is still wrong counts as permanent."
    )
    violations: PositiveInt = Field(100, description="Wrong answers whose evidence is kept, the last ones.")

    @property
    def own_lines(self) -> tuple[str, ...]:
        """Header lines that say who asks."""
        return () if self.bearer is None else (f"Authorization: Bearer {self.bearer.get_secret_value()}",)
