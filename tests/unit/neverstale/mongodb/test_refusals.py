"""Whose error it is: every row of the table, every kind of error that the driver raises by itself."""

import bson
import pytest
from pymongo import errors

from neverstale.errors import NeverstaleError, Outage, Overloaded, Refused, TooSlow
from neverstale.mongodb.refusals import BY_OPERATION, TABLE, Operation, ours, row_of

OPERATIONS: tuple[Operation, ...] = ("keys", "query", "export", "count", "now", "walks", "kinds")
ROWS = [(operation, code) for operation in OPERATIONS for code in TABLE]


@pytest.mark.parametrize(("operation", "code"), ROWS)
def test_each_code_is_blamed_as_the_table_says(operation: Operation, code: int) -> None:
    row = row_of(code, operation)
    assert row is not None
    error = ours(errors.OperationFailure("any words", code, {"codeName": "Other"}), operation)
    match row.blame:
        case "outage":
            assert isinstance(error, Outage)
        case "too_much":
            assert isinstance(error, TooSlow)
        case _:
            assert isinstance(error, Refused)
            assert (error.code, error.name, error.blame) == (code, row.name, row.blame)
            assert "any words" not in str(error)


@pytest.mark.parametrize("code", [code for code, row in TABLE.items() if row.blame in ("collection", "user")])
def test_what_only_a_person_can_change_has_a_remedy(code: int) -> None:
    assert TABLE[code].remedy


def test_the_time_of_a_query_is_its_own_and_the_time_of_a_read_by_key_the_servers() -> None:
    timed_out = errors.ExecutionTimeout("", 50, {})
    assert isinstance(ours(timed_out, "query"), TooSlow)
    assert isinstance(ours(timed_out, "keys"), Outage)


def test_every_exception_for_an_operation_has_a_row_to_be_an_exception_from() -> None:
    assert all(code in TABLE for _, code in BY_OPERATION)


@pytest.mark.parametrize("code", [3, 4_711, 40_415, 99_999_999, None])
def test_a_code_that_nobody_knows_is_the_requests(code: int | None) -> None:
    error = ours(errors.OperationFailure("any words", code, {"codeName": "Location4711"}), "keys")
    assert isinstance(error, Refused)
    assert not isinstance(error, Outage)
    assert (error.code, error.name, error.blame, error.lasts) == (code, "Location4711", "request", False)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectionFailure(),
        errors.AutoReconnect(),
        errors.NetworkTimeout(),
        errors.NotPrimaryError(),
        errors.ServerSelectionTimeoutError(),
        errors.WaitQueueTimeoutError(),
        errors.ProtocolError(),
        TimeoutError(),
        ConnectionResetError(),
        OSError(),
    ],
)
def test_a_server_that_does_not_answer_is_an_outage(error: Exception) -> None:
    assert isinstance(ours(error, "keys"), Outage)


@pytest.mark.parametrize(
    "error",
    [
        bson.errors.InvalidBSON(),
        bson.errors.InvalidDocument(""),
        bson.errors.InvalidStringData(),
        errors.DocumentTooLarge(""),
        errors.InvalidOperation(),
        OverflowError(),
        RecursionError(),
        TypeError(),
        ValueError(),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, ""),
        UnicodeDecodeError("utf-8", b"\xe9", 0, 1, ""),
    ],
)
def test_what_the_driver_can_neither_write_nor_read_is_the_requests(error: Exception) -> None:
    found = ours(error, "keys")
    assert isinstance(found, Refused)
    assert (found.code, found.name, found.blame) == (None, type(error).__name__, "request")


def test_a_wrong_connection_string_is_the_users() -> None:
    found = ours(errors.ConfigurationError(), "keys")
    assert isinstance(found, Refused)
    assert found.blame == "user"


@pytest.mark.parametrize("error", [Outage("mongodb", "test"), Overloaded("mongodb"), TooSlow("mongodb")])
def test_errors_of_ours_stay_what_they_are(error: NeverstaleError) -> None:
    assert ours(error, "keys") is error
