"""Access control lists: what a role asks of Kafka."""

import re

from neverstale.kafka.refusals import REMEDIES
from neverstale.ops.privileges.kafka import WITH_USERS, of_role, script, users_script
from neverstale.settings import Kafka


def test_the_api_has_nothing_to_do_with_kafka() -> None:
    assert of_role("api", Kafka()) == ()
    assert "neverstale-api" not in script(Kafka()) + users_script()


def test_names_are_those_of_the_settings() -> None:
    text = script(Kafka(topic="a.changes", group="a", dead_topic="a.dead"))
    assert set(re.findall(r"--(?:topic|group) (\S+)", text)) == {"a.changes", "a.dead", "a"}


def test_what_a_refusal_tells_to_allow_some_role_is_allowed() -> None:
    told = {word for remedy in REMEDIES.values() for word in re.findall(r"--operation (\w+)", remedy)}
    given = {operation for role in WITH_USERS for acl in of_role(role, Kafka()) for operation in acl.operations}
    # `Describe` follows from the others, and brokers since 2.8 want no `IdempotentWrite` of who may write to a topic.
    assert told - given == {"Describe", "IdempotentWrite"}


def test_only_consumers_and_operators_read_and_only_operators_delete() -> None:
    able = {role: {o for acl in of_role(role, Kafka()) for o in acl.operations} for role in WITH_USERS}
    assert [role for role, operations in able.items() if "Read" in operations] == ["consumer", "operator"]
    assert [role for role, operations in able.items() if "Delete" in operations] == ["operator"]
