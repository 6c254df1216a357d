"""What `up` hands on of settings, and what it decides itself."""

from pathlib import Path

import pytest

from neverstale.links.exposure import exposed, is_local
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.up_settings import OWNED, blank, not_used, write_settings
from neverstale.settings.sources import DEFAULT, fields, load, variable
from tests.support.project import ROOT


def test_what_is_owned_are_settings_and_the_docs_name_them() -> None:
    assert set(OWNED) <= set(fields())
    text = (ROOT / "docs/operations.md").read_text()
    assert [name for name in OWNED if f"`{name}`" not in text] == []


def test_nothing_of_up_or_the_demo_is_reached_from_outside_whatever_is_set() -> None:
    """Every address that something listens on is decided by `up` itself, and is loopback."""
    addresses = {name for name in fields() if name.endswith(".host")}
    assert addresses and addresses <= set(OWNED)
    settings, _ = load(blank())
    assert not list(exposed(settings))
    assert is_local(LOOPBACK)


@pytest.mark.parametrize("name", OWNED)
def test_what_is_owned_and_set_is_said(name: str) -> None:
    origins = dict.fromkeys(fields(), DEFAULT) | {name: variable(name)}
    assert not_used(origins) == [f"{variable(name)} is not used: {OWNED[name]}"]


def test_nothing_is_said_of_what_nobody_has_set() -> None:
    assert not_used(dict.fromkeys(fields(), DEFAULT)) == []


def test_the_settings_of_roles_are_those_of_the_file_without_what_is_owned(tmp_path: Path) -> None:
    config, written = tmp_path / "neverstale.toml", tmp_path / "data.toml"
    config.write_text(
        'catalog = "a \\"b\\".toml"\n'
        '[kafka]\ntopic = "mine"\nsecurity_protocol = "SASL_SSL"\nsasl_username = "u"\nsasl_password = "p"\n'
        '[redis]\nurl = "redis://elsewhere"\nprefix = "pf"\n'
        "[limits]\nrequests_per_second = 0.5\n[service]\nport = 1\ndrain_seconds = 3\n"
    )
    environ = {"NEVERSTALE_API__LEASE_MS": "2345"}
    settings, origins = load(environ, config)
    write_settings(written, settings, origins, config)
    given, given_origins = load(blank() | environ, written)
    assert given.catalog == (tmp_path / 'a "b".toml').resolve()
    assert (given.kafka.topic, given.redis.prefix) == ("mine", "pf")
    assert (given.limits.requests_per_second, given.service.drain_seconds) == (0.5, 3)
    assert given.api.lease_ms == 2345
    assert not [name for name in OWNED if given_origins[name] != DEFAULT]
    assert "elsewhere" not in written.read_text()
