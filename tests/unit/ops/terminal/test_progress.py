"""How far something is, as it is shown."""

import sys

import pytest

from neverstale.ops.terminal.progress import Shown


def test_without_a_terminal_a_line_comes_for_each_state(capsys: pytest.CaptureFixture[str]) -> None:
    with Shown("resync of flights", quiet=False) as shown:
        shown.show("walks", 10, 100)
        shown.show("walks", 20, 100)  # too soon for another line
        shown.show("waits", 120, 100)
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines() == [
        "resync of flights: walks, 10 of about 100",
        "resync of flights: waits, 120 of about 120",
    ]


def test_on_a_terminal_a_bar_is_drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Shown("resync of flights", quiet=False) as shown:
        shown.show("walks", 0, 0)
        shown.show("walks", 10, 100)
        assert shown._bar is not None
        assert (shown._bar.tasks[0].completed, shown._bar.tasks[0].total) == (10, 100)
    written = capsys.readouterr()
    assert written.out == "" and "resync of flights: walks" in written.err


def test_beside_json_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Shown("resync of flights", quiet=True) as shown:
        shown.show("walks", 10, 100)
    assert capsys.readouterr() == ("", "")
