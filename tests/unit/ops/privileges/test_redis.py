"""Users of Redis: enough for the scripts as they ship, and no more than a role needs."""

from fnmatch import fnmatchcase

import pytest

from neverstale.keys import Names
from neverstale.ops.privileges.redis import called_by, channels_of, commands_of, keys_of, user
from neverstale.ops.privileges.roles import ROLES, Role
from neverstale.redis.scripts import NAMES, Name, source

NAMES_OF = Names("ns")


def may_write(role: Role, key: bytes) -> bool:
    patterns = [pattern.removeprefix("~") for pattern in keys_of(role, "ns") if pattern.startswith("~")]
    return any(fnmatchcase(key.decode(), pattern) for pattern in patterns)


@pytest.mark.parametrize("script", NAMES)
def test_every_command_of_a_script_is_found(script: Name) -> None:
    assert source(script).count("call('") == sum(source(script).count(f"'{c.upper()}'") for c in called_by(script))


def test_whoever_runs_a_script_may_send_what_it_calls() -> None:
    assert {"hincrby", "zadd", "pexpire", "publish"} <= set(commands_of("consumer"))
    assert {"setrange", "time", "subscribe", "zunionstore"} <= set(commands_of("api"))
    assert not {"publish", "subscribe", "evalsha", "get"} & set(commands_of("watcher"))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_change_the_server_or_run_a_script_of_its_own_by_text(role: Role) -> None:
    dangerous = {
        "eval",
        "config",
        "config|set",
        "flushall",
        "flushdb",
        "keys",
        "acl|setuser",
        "shutdown",
        "replicaof",
    }
    assert not dangerous & set(commands_of(role))
    assert not [
        word for word in user(role, "ns", "p") if "@" in word or word in ("allkeys", "allcommands", "~*", "&*")
    ]


@pytest.mark.parametrize(
    "key",
    [
        NAMES_OF.applied,
        NAMES_OF.floor("flights"),
        NAMES_OF.watermarks("g"),
        NAMES_OF.topics("g"),
        NAMES_OF.reached("g"),
    ],
)
def test_only_consumers_and_operators_write_what_may_be_believed(key: bytes) -> None:
    assert [role for role in ROLES if may_write(role, key)] == ["consumer", "operator"]


def test_the_api_writes_entries_budgets_and_what_is_derived() -> None:
    for key in (NAMES_OF.entry("flights", "s:a:d:b"), NAMES_OF.limit(b"10.0.0.1"), b"ns:{flights}:reads"):
        assert may_write("api", key)


@pytest.mark.parametrize("role", ROLES)
def test_a_user_is_made_anew_each_time(role: Role) -> None:
    words = user(role, "ns", "p")
    assert words[:4] == [f"neverstale-{role}", "reset", "on", ">p"]
    assert channels_of(role, "ns") == ([] if role == "watcher" else ["&ns:announcements"])
