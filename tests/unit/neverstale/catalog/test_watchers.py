"""Watcher groups in the catalog: what may be declared, and which collection is in which group."""

from pathlib import Path
from typing import Any

import pytest

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured

RESOURCES = {
    "flights": {"key_type": "string"},
    "boards": {"key_type": "string", "collection": "flights"},
    "orders": {"key_type": "int"},
    "items": {"key_type": "int", "collection": "order_items"},
}


def catalog(**watchers: Any) -> Catalog:
    groups = {name: {"collections": collections} for name, collections in watchers.items()}
    return Catalog.model_validate({"database": "shop", "resources": RESOURCES, "watchers": groups})


def test_without_groups_all_is_in_the_default_group() -> None:
    assert catalog().groups == {"default": ("flights", "order_items", "orders")}
    assert {one.watcher_group for one in catalog().resources.values()} == {"default"}
    assert catalog().of_group("default").resources == catalog().resources


def test_what_no_group_names_is_in_the_default_group() -> None:
    split = catalog(orders=["orders", "order_items"])
    assert split.groups == {"default": ("flights",), "orders": ("order_items", "orders")}
    assert {name: one.watcher_group for name, one in split.resources.items()} == {
        "flights": "default",
        "boards": "default",
        "orders": "orders",
        "items": "orders",
    }


def test_a_default_group_without_collections_is_none() -> None:
    assert list(catalog(a=["orders", "order_items"], b=["flights"]).groups) == ["a", "b"]


def test_a_catalog_of_one_group_holds_its_resources_alone() -> None:
    of = catalog(orders=["orders"]).of_group("orders")
    assert list(of.resources) == ["orders"]
    assert of.groups == {"orders": ("orders",)}
    assert of.collections == ("orders",)


def test_derived_data_of_another_group_have_another_name() -> None:
    names = {name: one.derived_name for name, one in catalog(orders=["orders"]).resources.items()}
    assert names == {"flights": "flights", "boards": "boards", "orders": "orders@orders", "items": "items"}


WRONG = {
    'a = ["order"]': ("watchers.a.collections", "no resource is served from 'order'; did you mean orders?"),
    'a = ["orders"]\nb = ["orders"]': ("watchers.b.collections", "orders is in a, too"),
    "a = []": ("watchers.a.collections", ""),
    'A = ["orders"]': ("watchers.A", "is not the name of a watcher group"),
    '"a.b" = ["orders"]': ("watchers", "is not the name of a watcher group"),
    'default = ["orders"]': ("watchers.default", "has a meaning already"),
    'dead = ["orders"]': ("watchers.dead", "has a meaning already"),
    f'{"x" * 33} = ["orders"]': ("watchers.x", "is not the name of a watcher group"),
    "\n".join(f'g{number} = ["orders"]' for number in range(17)): ("watchers", "there are 17 groups"),
}


@pytest.mark.parametrize("declared", WRONG)
def test_what_is_wrong_is_named_with_its_path_and_a_remedy(declared: str, tmp_path: Path) -> None:
    tables = [line.split(" = ") for line in declared.splitlines()]
    watchers = "\n".join(f"[watchers.{name}]\ncollections = {collections}" for name, collections in tables)
    path = tmp_path / "catalog.toml"
    path.write_text(f'database = "shop"\n[resources.orders]\nkey_type = "int"\n{watchers}\n')
    with pytest.raises(Misconfigured) as error:
        Catalog.load(path)
    where, problem = WRONG[declared]
    assert where in str(error.value)
    assert problem in str(error.value)
