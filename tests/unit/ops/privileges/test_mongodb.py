"""Roles and users of MongoDB."""

import pytest

from neverstale.ops.privileges import mongodb
from neverstale.ops.privileges.roles import ROLES, Role


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reaches_no_other_database(role: Role) -> None:
    made = mongodb.creation(role, "shop", ["orders"])
    assert {privilege["resource"]["db"] for privilege in made["privileges"]} == {"shop"}
    assert made["roles"] == []


@pytest.mark.parametrize("role", ROLES)
def test_writes_go_to_collections_of_ours_alone(role: Role) -> None:
    writes = {"insert", "update", "remove"}
    privileges = mongodb.of_role(role, ["orders"])
    assert all(name.startswith("neverstale.") for name, actions in privileges.items() if writes & set(actions))
    assert role != "api" or not any(writes & set(actions) for actions in privileges.values())


def test_a_name_is_text_whatever_it_holds() -> None:
    text = mongodb.roles_script('a"b', ["c\\d"])
    assert 'db: "a\\"b", collection: "c\\\\d"' in text


def test_each_user_has_its_role_and_an_operator_sees_the_whole() -> None:
    assert mongodb.user("api", "shop", "p")["roles"] == [{"role": "neverstaleApi", "db": "shop"}]
    assert {"role": "clusterMonitor", "db": "admin"} in mongodb.certified("operator", "shop", "CN=x")["roles"]
