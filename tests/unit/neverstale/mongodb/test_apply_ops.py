"""The gap of `applyOps` before MongoDB 7.0 is said as long as it is there, and no longer."""

import json
from unittest.mock import AsyncMock, Mock

import pytest
from pymongo.errors import AutoReconnect
from structlog.testing import capture_logs

from neverstale.mongodb.apply_ops import AGAIN_SECONDS, PART, ApplyOpsGap, is_told
from neverstale.role.service import Health


class Server:
    """Says that it is of a version, or nothing."""

    def __init__(self, version: str) -> None:
        self.version: str | None = version
        self.admin = Mock(command=AsyncMock(side_effect=self._answer))

    async def _answer(self, command: str) -> object:
        assert command == "buildInfo"
        if self.version is None:
            raise AutoReconnect("gone")
        return {"version": self.version, "versionArray": [*map(int, self.version.split(".")), 0]}


def health() -> Health:
    return Health({"mongodb": None})


def said(health: Health) -> str | None:
    answer = health.answer()
    assert answer.status_code == 200  # a note makes nobody less ready
    found: str | None = json.loads(bytes(answer.body))["parts"].get(PART)
    return found


@pytest.mark.parametrize("version", [(5, 0, 31), (6, 0, 5), (6, 3, 2), (4, 4)])
def test_before_7_0_it_is_not_told(version: tuple[int, ...]) -> None:
    assert not is_told(version)


@pytest.mark.parametrize("version", [(7, 0, 0), (7, 0), (8, 0, 23), (10, 0, 1)])
def test_since_7_0_it_is_told(version: tuple[int, ...]) -> None:
    assert is_told(version)


async def test_an_old_server_is_said_in_log_and_readyz_with_the_remedy_once() -> None:
    shown = health()
    gap = ApplyOpsGap(Server("6.0.5"), shown)  # type: ignore[arg-type]
    with capture_logs() as logs:
        for _ in range(3):
            await gap.look()
    [line] = logs
    assert (line["event"], line["log_level"]) == ("apply_ops_untold", "warning")
    assert "neverstale resync" in line["remedy"]
    assert gap.note is not None and said(shown) == gap.note and "neverstale resync" in gap.note


async def test_a_newer_server_is_nothing_to_be_said() -> None:
    shown = health()
    gap = ApplyOpsGap(Server("8.0.23"), shown)  # type: ignore[arg-type]
    with capture_logs() as logs:
        await gap.look()
    assert (gap.note, said(shown), logs) == (None, None, [])


async def test_the_note_goes_when_the_server_is_upgraded_and_comes_again_after_a_downgrade() -> None:
    server, shown = Server("6.0.5"), health()
    gap = ApplyOpsGap(server, shown)  # type: ignore[arg-type]
    notes = []
    for version in ("6.0.5", "7.0.1", "6.0.5"):
        server.version = version
        with capture_logs():
            await gap.look()
        notes.append(said(shown) is not None)
    assert notes == [True, False, True]


async def test_while_the_server_is_away_nothing_changes_and_it_is_asked_again_soon() -> None:
    server, shown = Server("6.0.5"), health()
    gap = ApplyOpsGap(server, shown)  # type: ignore[arg-type]
    server.version = None
    assert await gap.look() == AGAIN_SECONDS
    assert gap.note is None
    server.version = "6.0.5"
    with capture_logs():
        await gap.look()
    server.version = None
    await gap.look()
    assert said(shown) == gap.note is not None
