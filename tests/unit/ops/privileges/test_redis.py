"""Users of Redis: enough for the scripts as they ship, and no more than a role needs."""

from fnmatch import fnmatchcase

import pytest

from neverstale.derived.redis_names import DerivedNames
from neverstale.keys import Names
from neverstale.ops.privileges.redis import called_by, channels_of, commands_of, keys_of, layout_of, user
from neverstale.ops.privileges.roles import ROLES, Role
from neverstale.redis.scripts import NAMES, Name, source
from neverstale.settings import RedisSettings

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


CELL = NAMES_OF.cell("default.16.3")
DERIVED = DerivedNames("ns", "flights")
OF = DERIVED.of("8c1798bc")


@pytest.mark.parametrize(
    "key",
    [
        *(NAMES_OF.entry("flights", "s:a:d:b"), CELL.entry("flights", "s:a"), NAMES_OF.limit(b"10.0.0.1")),
        *(OF.page("departures", "JFK", ""), f"{DERIVED.base}:reads".encode(), f"{DERIVED.base}:reads:since".encode()),
        NAMES_OF.role("api", "host-1"),
    ],
)
def test_the_api_writes_entries_pages_counts_of_reads_budgets_and_its_card(key: bytes) -> None:
    assert may_write("api", key)


@pytest.mark.parametrize(
    "key",
    [
        *(CELL.applied, CELL.floor("flights"), CELL.watermarks("g"), CELL.topics("g"), CELL.reached("g")),
        *(DERIVED.generations, OF.partitions, OF.bucket(1), OF.tags("departures"), OF.counter("by_status")),
        *(OF.sizes("late"), OF.ranking("late", "JFK"), NAMES_OF.role("watcher", "host-1"), NAMES_OF.audit),
    ],
)
def test_the_api_only_reads_what_is_derived_and_what_may_be_believed_in_every_layout(key: bytes) -> None:
    assert not may_write("api", key)


@pytest.mark.parametrize("role", ROLES)
def test_a_cluster_is_asked_who_holds_what_and_announcements_are_sharded(role: Role) -> None:
    one, cluster = set(commands_of(role)), set(commands_of(role, "cluster"))
    looks = {"cluster|nodes", "cluster|info"} if role == "operator" else set()
    assert cluster - one - looks <= {"cluster|slots", "asking", "info", "spublish", "ssubscribe", "hvals"}
    assert looks <= cluster
    assert one - cluster <= {"publish", "subscribe", "select"}
    assert {"cluster|slots", "asking", "info"} <= cluster
    assert set(commands_of(role, "cells")) - one <= {"hvals"}


@pytest.mark.parametrize("role", ["consumer", "api", "operator"])
def test_each_cell_has_a_channel(role: Role) -> None:
    for layout in ("cells", "cluster"):
        [channel] = channels_of(role, "ns", layout)
        assert fnmatchcase(CELL.announcements.decode(), channel.removeprefix("&"))
        assert not fnmatchcase("ns:announcements", channel.removeprefix("&"))


@pytest.mark.parametrize(
    ("url", "cells", "layout"),
    [
        ("redis://h/0", None, "one"),
        ("redis://h/0", "partition", "cells"),
        ("redis+cluster://h:1", None, "cluster"),
    ],
)
def test_the_layout_is_what_the_settings_say(url: str, cells: str | None, layout: str) -> None:
    assert layout_of(RedisSettings.model_validate({"url": url, "cells": cells})) == layout


@pytest.mark.parametrize("role", ROLES)
def test_a_user_is_made_anew_each_time(role: Role) -> None:
    words = user(role, "ns", "p")
    assert words[:4] == [f"neverstale-{role}", "reset", "on", ">p"]
    assert channels_of(role, "ns") == ([] if role == "watcher" else ["&ns:announcements"])
