"""What errors of the change stream mean."""

import pytest
from pymongo.errors import AutoReconnect, ConfigurationError, OperationFailure, PyMongoError

from neverstale.errors import MongoDBRefuses, Outage, PositionLost, Stop
from neverstale.streams.error_codes import TABLE, ErrorMeaning, Phase, as_ours, meaning, of_step


@pytest.mark.parametrize("code", [280, 286, 136, 10334, 260])
@pytest.mark.parametrize("phase", Phase)
def test_lost_history_is_lost_in_every_phase(code: int, phase: Phase) -> None:
    assert meaning(code, phase) is ErrorMeaning.LOST


@pytest.mark.parametrize("code", [2, 9, 14, 15, 40647, 40649, 50811])
def test_an_unreadable_command_means_a_bad_token_only_where_a_token_was_given(code: int) -> None:
    assert meaning(code, Phase.OPEN_AFTER_TOKEN) is ErrorMeaning.LOST
    assert meaning(code, Phase.OPEN_AT_TIME) is ErrorMeaning.AWAY
    assert meaning(code, Phase.READ) is ErrorMeaning.AWAY


@pytest.mark.parametrize("code", [None, 0, 6, 7, 43, 63, 89, 91, 133, 150, 189, 237, 262, 9001, 10107, 11602, 13435])
@pytest.mark.parametrize("phase", Phase)
def test_whatever_is_not_in_the_table_passes(code: int | None, phase: Phase) -> None:
    assert meaning(code, phase) is ErrorMeaning.AWAY


@pytest.mark.parametrize("code", [13, 18])
@pytest.mark.parametrize("phase", Phase)
def test_what_our_user_may_not_is_waited_for_and_said_with_its_remedy(code: int, phase: Phase) -> None:
    for found in (as_ours(OperationFailure("{a: 1}", code), phase), of_step(OperationFailure("", code), "x", "y")):
        assert isinstance(found, MongoDBRefuses)
        assert str(code) in found.reason and "mongodb.uri" in found.remedy and "{a: 1}" not in str(found)


def test_a_step_beside_the_stream_says_what_it_needs() -> None:
    assert str(of_step(OperationFailure("", 13), "taking the lease", "neverstale.control")) == (
        "mongodb refuses: 13 Unauthorized while taking the lease; "
        "grant the user of mongodb.uri find, insert and update on neverstale.control"
    )
    assert isinstance(of_step(AutoReconnect("gone"), "taking the lease", "x"), Outage)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OperationFailure("", 286), PositionLost),
        (OperationFailure("", 11602), Outage),
        (OperationFailure("no code at all"), Outage),
        (AutoReconnect("connection closed"), Outage),
        (ConfigurationError("wrong address"), Stop),
    ],
)
def test_errors_become_ours(error: PyMongoError, ours: type[Exception]) -> None:
    assert type(as_ours(error, Phase.READ)) is ours


def test_a_message_is_never_read() -> None:
    assert isinstance(as_ours(OperationFailure("ChangeStreamHistoryLost 286", 11602), Phase.READ), Outage)


def test_the_reason_names_code_and_phase() -> None:
    reason = str(as_ours(OperationFailure("gone", 286), Phase.OPEN_AFTER_TOKEN))
    assert "286" in reason
    assert "stored token" in reason


def test_every_row_of_the_table_says_when_it_holds() -> None:
    assert all(phases for phases, _ in TABLE.values())
