"""Settings: their sources, their origins, and what is said about a wrong one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neverstale.errors import Misconfigured
from neverstale.misconfiguration import redacted
from neverstale.settings import Settings
from neverstale.settings.sources import fields, load, variable


def refused(environ: Mapping[str, str], toml_path: Path | None = None, **overrides: Any) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        load(environ, toml_path, overrides)
    return str(caught.value).splitlines()


def write(folder: Path, text: str) -> Path:
    path = folder / "neverstale.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_sources_everything_is_the_default() -> None:
    settings, origins = load({})
    assert settings == Settings()
    assert set(origins) == set(fields())
    assert set(origins.values()) == {"default"}


def test_the_nearer_source_wins_and_is_the_origin(tmp_path: Path) -> None:
    path = write(tmp_path, '[kafka]\ntopic = "file"\ngroup = "file"\n[api]\nport = 1\n')
    settings, origins = load({"NEVERSTALE_KAFKA__TOPIC": "env", "NEVERSTALE_API__PORT": "2"}, path, {"api.port": 3})
    assert (settings.kafka.group, origins["kafka.group"]) == ("file", f"{path}: kafka.group")
    assert (settings.kafka.topic, origins["kafka.topic"]) == ("env", "NEVERSTALE_KAFKA__TOPIC")
    assert (settings.api.port, origins["api.port"]) == (3, "option --api-port")


@pytest.mark.parametrize("setting", [name for name in fields() if name != "catalog"])
def test_each_setting_has_a_variable_of_its_own(setting: str) -> None:
    section, name = setting.split(".")
    assert variable(setting) == f"NEVERSTALE_{section.upper()}__{name.upper()}"


def test_an_empty_variable_is_not_set() -> None:
    settings, origins = load({"NEVERSTALE_KAFKA__TOPIC": ""})
    assert (settings.kafka.topic, origins["kafka.topic"]) == ("neverstale.changes", "default")


def test_variables_of_others_are_none_of_our_business() -> None:
    load({"PATH": "/bin", "NEVER": "1", "NEVERSTALE": "1", "neverstale_kafka__topic": "x"})


def test_variables_of_the_tools_and_tests_are_no_settings() -> None:
    load({"NEVERSTALE_MONGOD": "/m", "NEVERSTALE_TEST_MONGODB_URI": "x", "NEVERSTALE_KAFKA_LIBS": "/l"})


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("NEVERSTALE_KAFKA_TOPIC", "did you mean NEVERSTALE_KAFKA__TOPIC?"),
        ("NEVERSTALE_MONGO__URI", "did you mean NEVERSTALE_MONGODB__URI?"),
        ("NEVERSTALE_Api__Port", "did you mean NEVERSTALE_API__PORT?"),
        ("NEVERSTALE_ZZZZ", "unset it; `neverstale settings` lists all"),
    ],
)
def test_a_misspelt_variable_is_an_error(name: str, remedy: str) -> None:
    assert refused({name: "s3cret"}) == [f"{name}: is not a setting; {remedy}"]


def test_a_misspelt_name_in_the_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, 'catalogue = "x"\n[kafka]\ntopik = "x"\n[kafak]\ntopic = "x"\n')
    assert refused({}, path) == [
        f"{path}: kafka.topik: is not a known name; did you mean topic?",
        f"{path}: catalogue: is not a known name; did you mean catalog?",
        f"{path}: kafak: is not a known name; did you mean kafka?",
    ]


def test_the_problems_of_all_sources_come_together(tmp_path: Path) -> None:
    path = write(tmp_path, "[api]\nworkers = 0\n")
    assert refused({"NEVERSTALE_X": "", "NEVERSTALE_API__PORT": "http"}, path, catalog=3) == [
        "NEVERSTALE_X: is not a setting; unset it; `neverstale settings` lists all",
        "option --catalog: 3 is not a path; use a path",
        'NEVERSTALE_API__PORT: "http" is not a whole number; use a whole number',
        f"{path}: api.workers: 0 is out of range; use a number above 0",
    ]


def test_a_section_is_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, 'mongodb = "mongodb://me:s3cret@host/"\n')
    environ = {"NEVERSTALE_MONGODB__READ_TIMEOUT_MS": "5"}
    assert refused(environ, path) == [f"{path}: mongodb: the value (hidden) is not a table; use a table"]


def test_a_given_file_must_exist(tmp_path: Path) -> None:
    [problem] = refused({}, tmp_path / "no.toml")
    assert problem.endswith("no.toml: there is no such settings file; correct --config or leave it out")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    [problem] = refused({}, write(tmp_path, "[api]\nport =\n"))
    assert "is not valid TOML" in problem and "line 2" in problem


def test_a_path_in_the_file_is_relative_to_the_file(tmp_path: Path) -> None:
    settings, _ = load({}, write(tmp_path, 'catalog = "board.toml"\n'))
    assert settings.catalog == tmp_path / "board.toml"


def test_a_path_in_the_environment_is_relative_to_the_working_directory() -> None:
    assert load({"NEVERSTALE_CATALOG": "board.toml"})[0].catalog == Path("board.toml")


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:s3cret@host",
        "mongodb://me:s3cret",
        "mongodb://me:s3@cret@host",
        "mongodb://me:s3/cret@host",
        "mongodb://me:?s3cret@host",
        "mongodb://host/?s3cret@x=1",
        "mongodb://me:s3cret@host:70000",
        "mongodb://me:s3cret@host/?readPreference=s3cret",
        "mongodb://",
    ],
)
def test_a_wrong_mongodb_uri_is_refused_without_repeating_it(uri: str) -> None:
    [problem] = refused({"NEVERSTALE_MONGODB__URI": uri})
    assert problem.startswith("NEVERSTALE_MONGODB__URI: ")
    assert "s3" not in problem and "cret" not in problem


def test_a_refused_option_of_the_uri_is_named() -> None:
    [problem] = refused({"NEVERSTALE_MONGODB__URI": "mongodb://host/?replicaset=rs0&maxPoolSze=3"})
    assert "option maxPoolSze" in problem


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://me:p%40ss@a:1,b:2/db?replicaSet=rs0&authSource=admin&readPreference=nearest",
        "mongodb://[::1]:27017/",
        "mongodb+srv://me:pass@cluster.example.com/?retryWrites=true&w=majority",
    ],
)
def test_ordinary_mongodb_uris_are_accepted(uri: str) -> None:
    assert load({"NEVERSTALE_MONGODB__URI": uri})[0].mongodb.uri.get_secret_value() == uri


@pytest.mark.parametrize(
    "url",
    ["me:s3cret@host", "http://s3cret", "redis://", "redis://h:s3cret", "redis://me:s3/cret@h", "redis://h/s3cret"],
)
def test_a_wrong_redis_url_is_refused_without_repeating_it(url: str) -> None:
    [problem] = refused({"NEVERSTALE_REDIS__URL": url})
    assert problem.startswith("NEVERSTALE_REDIS__URL: ") and "s3" not in problem


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://me:p%40@h:6380/2", "redis://[::1]:6379/0", "unix:///run/redis.sock"]
)
def test_ordinary_redis_urls_are_accepted(url: str) -> None:
    assert load({"NEVERSTALE_REDIS__URL": url})[0].redis.url.get_secret_value() == url


@pytest.mark.parametrize("servers", ["broker", "broker:", ":9092", "a:1,,b:2", "a:0", "a:99999", "kafka://a:1"])
def test_bootstrap_servers_are_host_and_port(servers: str) -> None:
    [problem] = refused({"NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": servers})
    assert "is not host:port; e.g. broker1:9092" in problem


def test_a_password_is_never_repeated(tmp_path: Path) -> None:
    [problem] = refused({}, write(tmp_path, "[kafka]\nsasl_password = 12345\n"))
    assert problem.endswith("kafka.sasl_password: the value (hidden) is not a text; use a text")


def test_sasl_needs_user_and_password() -> None:
    environ = {"NEVERSTALE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "NEVERSTALE_KAFKA__SASL_USERNAME": "me"}
    [problem] = refused(environ)
    assert problem.startswith("setting kafka.sasl_password (NEVERSTALE_KAFKA__SASL_PASSWORD): is missing, but")


def test_a_user_without_sasl_is_a_mistake() -> None:
    [problem] = refused({"NEVERSTALE_KAFKA__SASL_USERNAME": "me"})
    assert problem.startswith("NEVERSTALE_KAFKA__SASL_USERNAME: has no effect with PLAINTEXT; ")


def test_the_authorities_of_kafka_must_be_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[kafka]\nssl_cafile = "ca.pem"\n')
    assert refused({}, path) == [
        f"{path}: kafka.ssl_cafile: there is no file {tmp_path / 'ca.pem'}; name a readable PEM file"
    ]


@pytest.mark.parametrize(
    ("environ", "culprit"),
    [
        ({"NEVERSTALE_KAFKA__REQUEST_TIMEOUT_MS": "500"}, "kafka.fetch_max_wait_ms"),
        ({"NEVERSTALE_WATCHER__HEARTBEAT_MS": "49"}, "watcher.mark_interval_ms"),
        ({"NEVERSTALE_API__LEASE_MS": "499"}, "api.wait_ms"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(environ: dict[str, str], culprit: str) -> None:
    [problem] = refused(environ)
    assert problem.startswith(f"setting {culprit} ({variable(culprit)}): ")


def test_a_choice_in_the_wrong_case_gets_its_right_spelling() -> None:
    [problem] = refused({"NEVERSTALE_KAFKA__SECURITY_PROTOCOL": "ssl"})
    assert problem.endswith("did you mean SSL?")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("mongodb://me:p@h:1/?replicaSet=rs0", "mongodb://***@h:1/?replicaSet=rs0"),
        ("mongodb://me:p@ss/w@h/", "mongodb://***@h/"),
        ("redis://:p@h:6379/0", "redis://***@h:6379/0"),
        ("redis://h/0?username=me&password=p&db=1", "redis://h/0?username=***&password=***&db=1"),
        (
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:t&tlsCertificateKeyFilePassword=p",
            "mongodb://h/?authMechanismProperties=***&tlsCertificateKeyFilePassword=***",
        ),
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ],
)
def test_connection_strings_are_shown_without_credentials(text: str, plain: str) -> None:
    assert redacted(text) == plain
