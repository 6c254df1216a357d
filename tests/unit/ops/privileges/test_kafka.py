"""Access control lists: what a role asks of Kafka."""

import re
from typing import get_args

from neverstale.kafka.refusals import REMEDIES, Needs
from neverstale.ops.privileges.kafka import WITH_USERS, of_role, script, users_script
from neverstale.settings import Kafka


def test_the_api_has_nothing_to_do_with_kafka() -> None:
    assert of_role("api", Kafka()) == []
    assert "neverstale-api" not in script(Kafka()) + users_script()


def test_names_are_those_of_the_settings() -> None:
    text = script(Kafka(topic="a.changes", group="a", dead_topic="a.dead"))
    assert set(re.findall(r"--(?:topic|group) (\S+)", text)) == {"a.changes", "a.dead", "a"}


def test_what_a_refusal_tells_to_allow_some_role_is_allowed() -> None:
    given = {operation for role in WITH_USERS for acl in of_role(role, Kafka()) for operation in acl.operations}
    assert set(get_args(Needs)) <= given
    literal = {word for remedy in REMEDIES.values() for word in re.findall(r"--operation (\w+)", remedy)}
    assert literal <= given


def test_only_consumers_and_operators_read_and_only_operators_delete() -> None:
    able = {role: {o for acl in of_role(role, Kafka()) for o in acl.operations} for role in WITH_USERS}
    assert [role for role, operations in able.items() if "Read" in operations] == ["consumer", "operator"]
    assert [role for role, operations in able.items() if "Delete" in operations] == ["operator"]


def test_each_watcher_group_has_its_topics_and_its_consumer_group() -> None:
    lines = script(Kafka(), ("default", "orders")).splitlines()
    of_orders = [line.replace(".orders", "") for line in lines if ".orders" in line]
    assert sorted(of_orders) == sorted(script(Kafka()).splitlines())
    assert any("--topic neverstale.changes.orders.dead" in line for line in lines)
    assert any("--group neverstale.orders" in line for line in lines)
