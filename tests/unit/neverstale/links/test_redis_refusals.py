"""Why Redis gives no answer, and what to do where only a human can."""

import ssl

import pytest
from redis import exceptions
from redis.exceptions import RedisError, ResponseError

from neverstale.links.redis_refusals import (
    CREDENTIALS,
    NOT_TAKEN,
    NOT_TRUSTED,
    RIGHTS,
    SHOWN_LETTERS,
    is_of_rights,
    reason_of,
)

WITHIN = f"The user executing the script can't run this command or subcommand script: {'0f' * 20}, on @user_script:8."
OLD = f"Error running script (call to f_{'0f' * 20}): @user_script:3: "
OF_OLD = OLD + "@user_script: 3: The user executing the script can't run this command or subcommand"
SAID = "this user has no permissions to run the 'hset' command"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (exceptions.OutOfMemoryError("command not allowed"), "OOM"),
        (exceptions.NoPermissionError(SAID), f"NoPermissionError: {SAID}; {RIGHTS}"),
        (exceptions.AuthenticationError("WRONGPASS"), f"AuthenticationError; {CREDENTIALS}"),
        (exceptions.AuthorizationError("x"), f"AuthorizationError; {CREDENTIALS}"),
        (exceptions.BusyLoadingError("x"), "BusyLoadingError"),
        (exceptions.ReadOnlyError("x"), "ReadOnlyError"),
        (ResponseError("MISCONF Redis is configured"), "MISCONF"),
        (ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE"),
        (ResponseError("value is not an integer"), "ERR: value is not an integer"),
        (ResponseError("The user executing the script can't run this"), "ERR: The user executing the script can't run"
         " this"),
        (ResponseError(WITHIN), f"ERR: {WITHIN}; if a right is missing, {RIGHTS}"),
        (ResponseError(f"{OLD}-OOM command"), "OOM"),
        (ResponseError(f"{OLD}WRONGTYPE Operation against"), "WRONGTYPE"),
        (ResponseError(f"{OLD}@user_script: 3: -READONLY You can't write against a replica."), "READONLY"),
        (ResponseError(f"{OLD}-NOPERM this user"), f"NoPermissionError within a script; {RIGHTS}"),
        (ResponseError(OF_OLD), f"ERR: {OF_OLD}; if a right is missing, {RIGHTS}"),
        (exceptions.ExecAbortError(SAID), f"EXECABORT: {SAID}; if a right is missing, {RIGHTS}"),
        (exceptions.ConnectionError("gone"), "ConnectionError"),
        (OSError(), "OSError"),
        (TimeoutError(), "TimeoutError"),
    ],
)  # fmt: skip
def test_a_code_or_a_class_is_told_and_a_message_only_where_it_alone_says_what_is_missing(
    error: Exception, reason: str
) -> None:
    assert reason_of(error) == reason
    assert is_of_rights(error) == (RIGHTS in reason)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(ssl.SSLCertVerificationError("x"), NOT_TRUSTED), (ssl.SSLError("x"), NOT_TAKEN)],
)
def test_certificates_are_told_apart(cause: Exception, reason: str) -> None:
    error = exceptions.ConnectionError("Error while reading from 127.0.0.1:6379")
    error.__cause__ = cause
    assert reason_of(error) == reason


def test_a_long_message_is_cut() -> None:
    for error in (exceptions.NoPermissionError("x" * 5000), ResponseError("a" * 5000)):
        assert isinstance(error, RedisError) and len(reason_of(error)) < SHOWN_LETTERS + len(RIGHTS) + 30
