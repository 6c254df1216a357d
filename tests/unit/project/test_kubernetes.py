"""deploy/kubernetes: valid, and of nothing that does not exist. Without a cluster, and without kustomize."""

import copy
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import jsonschema
import kubernetes_validate
import pytest
import yaml

from neverstale.api.app import create_app
from neverstale.catalog import Catalog
from neverstale.links.exposure import exposed, is_local
from neverstale.ops.cli.start import RoleName
from neverstale.ops.privileges.kafka import WITH_USERS
from neverstale.ops.privileges.roles import user_of
from neverstale.settings import Kafka, Settings
from neverstale.settings.sources import load, secret_files
from tests.support.kustomize import CRDS, Document, built, validate
from tests.support.project import ROOT

HERE: Final = ROOT / "deploy" / "kubernetes"
ROLES: Final = ("watcher", "consumer", "api")
OVERLAYS: Final = ("small", "production")
KAFKA_TRIGGER: Final = frozenset(
    (
        *("bootstrapServers", "consumerGroup", "topic", "partitionLimitation", "lagThreshold"),
        *("activationLagThreshold", "offsetResetPolicy", "allowIdleConsumers", "excludePersistentLag"),
        *("scaleToZeroOnInvalidOffset", "limitToPartitionsWithLag", "ensureEvenDistributionOfPartitions"),
        *("version", "tls", "unsafeSsl", "sasl", "saslTokenProvider", "awsRegion"),
    )
)
"""What the trigger `kafka` of KEDA reads, of which its schema says nothing: the tags `triggerMetadata` in
pkg/scalers/kafka_scaler.go of 2.20.2."""
KAFKA_SECRETS: Final = frozenset(("ca", "cert", "key", "keyPassword", "sasl", "tls", "username", "password"))
"""And from a `TriggerAuthentication`, of what is of use here: the tags `authParams`."""


@cache
def overlay(name: str) -> list[Document]:
    return built(HERE / "overlays" / name)


def one(kind: str, name: str, overlay_name: str = "production") -> Document:
    [found] = [each for each in overlay(overlay_name) if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return copy.deepcopy(found)


def workload(role: str) -> Document:
    return one("StatefulSet" if role == "consumer" else "Deployment", f"neverstale-{role}")


def container(role: str) -> Document:
    [found] = workload(role)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def shared(name: str) -> dict[str, str]:
    lines = (HERE / "overlays" / name / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)


def environment(role: str, name: str, folder: Path) -> dict[str, str]:
    """What a pod's process gets; its files lie in `folder`."""
    found = shared(name)
    for each in container(role)["env"]:
        found[each["name"]] = each.get("value", "pod-0")
    secrets = {"mongodb-uri": "mongodb://u:p@db.internal/?replicaSet=rs0&tls=true", "kafka-password": "p"}
    secrets["redis-url"] = "rediss://u:p@cache.internal:6379/0"
    for variable, value in found.items():
        if value.startswith("/run/"):
            path = folder / Path(value).name
            path.write_text(secrets.get(path.name, "PEM"))
            found[variable] = str(path)
    return found


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_is_valid(name: str) -> None:
    kinds = [each["kind"] for each in overlay(name)]
    assert {"Deployment", "StatefulSet", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget"} <= set(
        kinds
    )
    for each in overlay(name):
        validate(each)


MISSPELT: Final[dict[tuple[str, str], Callable[[Document], object]]] = {
    ("Deployment", "neverstale-api"): lambda it: it["template"]["spec"]["containers"][0].update(readinesProbe={}),
    ("ScaledObject", "neverstale-consumer"): lambda it: it.update(minReplicasCount=2),
    ("TriggerAuthentication", "neverstale-consumer-kafka"): lambda it: it["secretTargetRef"][0].update(secret="x"),
    ("ServiceMonitor", "neverstale"): lambda it: it["endpoints"][0].update(targetport=8001),
}


@pytest.mark.parametrize(("kind", "name"), MISSPELT)
def test_a_misspelt_field_would_be_noticed(kind: str, name: str) -> None:
    wrong = one(kind, name)
    validate(wrong)
    MISSPELT[kind, name](wrong["spec"])
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        validate(wrong)


def test_a_field_of_another_type_would_be_noticed() -> None:
    wrong = one("ScaledObject", "neverstale-consumer")
    wrong["spec"]["triggers"][0]["metadata"]["allowIdleConsumers"] = False
    with pytest.raises(jsonschema.ValidationError):
        validate(wrong)


def test_every_schema_names_its_source_and_version() -> None:
    for path in CRDS.glob("*.json"):
        assert re.search(r"/blob/v\d+\.\d+\.\d+/", json.loads(path.read_text())["source"]), path


def test_every_file_is_a_part_of_something() -> None:
    listed = {HERE / "README.md"}
    for path in HERE.rglob("kustomization.yaml"):
        made = yaml.safe_load(path.read_text())
        generated = [
            file for each in made.get("configMapGenerator", ()) for file in each.get("envs", each.get("files"))
        ]
        listed |= {path, *(path.parent / name for name in (*made.get("resources", ()), *generated))}
    assert {path for path in HERE.rglob("*") if path.is_file()} <= listed


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_a_setting_and_all_together_are_valid(role: str, name: str, tmp_path: Path) -> None:
    settings, origins = load(environment(role, name, tmp_path))
    assert origins["mongodb.uri"].startswith("NEVERSTALE_MONGODB__URI_FILE")
    assert settings.kafka.security_protocol == ("PLAINTEXT" if role == "api" else "SASL_SSL")
    assert (role in WITH_USERS) == (settings.kafka.sasl_username == user_of(role))  # type: ignore[arg-type]
    assert settings.api.public_pages == "none"


def test_no_secret_stands_in_a_file() -> None:
    names = {variable.removesuffix("_FILE") for variable in secret_files()}
    for path in HERE.rglob("*"):
        if path.is_file():
            assert not names & set(re.findall(r"NEVERSTALE_[A-Z_]+", path.read_text())), path
    assert not [each for each in overlay("production") if each["kind"] == "Secret"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_the_command_that_everybody_runs(role: str) -> None:
    assert container(role)["command"] == ["neverstale", "run", RoleName(role).value]


@pytest.mark.parametrize("role", ROLES)
def test_ports_are_those_of_the_settings(role: str, tmp_path: Path) -> None:
    settings, _ = load(environment(role, "production", tmp_path))
    ports = {each["name"]: each["containerPort"] for each in container(role)["ports"]}
    assert ports.pop("service") == settings.service.port
    assert ports == ({"http": settings.api.port} if role == "api" else {})
    assert settings.service.host == "0.0.0.0"


@pytest.mark.parametrize("role", ROLES)
def test_probes_ask_paths_that_exist_on_the_port_of_operators(role: str) -> None:
    catalog = Catalog.load(ROOT / "catalog.toml")
    routes = {getattr(route, "path", "") for route in create_app(Settings(), catalog).router.routes}
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        asked = container(role)[probe]["httpGet"]
        assert asked == {"path": path, "port": "service"} and path in routes
    [endpoint] = one("ServiceMonitor", "neverstale")["spec"]["endpoints"]
    assert endpoint["path"] in routes


@pytest.mark.parametrize("role", ROLES)
def test_what_listens_beyond_its_pod_is_said_at_the_start_and_no_link_is_plain(role: str, tmp_path: Path) -> None:
    settings, _ = load(environment(role, "production", tmp_path))
    said = {one.setting for one in exposed(settings, role)}
    listening = {"service.host", "api.host"} if role == "api" else {"service.host"}
    assert all(not is_local(getattr(settings, name.partition(".")[0]).host) for name in listening)
    assert "service.host" in said
    assert said <= {"service.host", "limits.requests_per_second", "api.host"}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_nothing_on_its_node(role: str) -> None:
    pod, own = workload(role)["spec"]["template"]["spec"], container(role)["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    mounted = {each["name"]: each for each in container(role)["volumeMounts"]}
    assert {each["name"] for each in pod["volumes"]} == set(mounted)
    assert [name for name, each in mounted.items() if not each.get("readOnly")] == ["tmp"]


@pytest.mark.parametrize("role", ROLES)
def test_files_that_are_named_are_mounted(role: str) -> None:
    folders = [each["mountPath"] for each in container(role)["volumeMounts"]]
    named = {**shared("production"), **{each["name"]: each.get("value", "") for each in container(role)["env"]}}
    assert [v for v in named.values() if v.startswith("/") and str(Path(v).parent) not in folders] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_drain_before_it_is_killed(role: str, tmp_path: Path) -> None:
    settings, _ = load(environment(role, "production", tmp_path))
    grace = workload(role)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.service.drain_seconds
    if role == "api":
        probe = container(role)["readinessProbe"]
        assert settings.api.notice_ms / 1000 >= probe["periodSeconds"] * probe["failureThreshold"]
        assert settings.api.notice_ms / 1000 < settings.service.drain_seconds / 2


@pytest.mark.parametrize("role", ROLES)
def test_selectors_find_their_pods_and_one_may_be_away_at_once(role: str) -> None:
    labels = workload(role)["spec"]["template"]["metadata"]["labels"]
    name = {"app.kubernetes.io/name": f"neverstale-{role}"}
    assert name.items() <= labels.items() and labels["neverstale/role"] == role
    assert workload(role)["spec"]["selector"]["matchLabels"] == name
    budget = one("PodDisruptionBudget", f"neverstale-{role}")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": name}}


def test_two_of_each_role_run_and_what_is_scaled_has_no_number_of_its_own() -> None:
    assert workload("watcher")["spec"]["replicas"] == 2
    assert one("ScaledObject", "neverstale-consumer")["spec"]["minReplicaCount"] == 2
    assert one("HorizontalPodAutoscaler", "neverstale-api")["spec"]["minReplicas"] == 2
    assert not [role for role in ("consumer", "api") if "replicas" in workload(role)["spec"]]


def test_services_lead_to_ports_that_are_there() -> None:
    services = [each for each in overlay("production") if each["kind"] == "Service"]
    for service in services:
        [role] = [role for role in ROLES if service["spec"]["selector"]["app.kubernetes.io/name"].endswith(role)]
        names = {each["name"] for each in container(role)["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    monitored = [each for each in services if each["metadata"]["labels"].get("neverstale/port") == "service"]
    assert len(monitored) == len(ROLES)
    assert one("StatefulSet", "neverstale-consumer")["spec"]["serviceName"] in {
        s["metadata"]["name"] for s in services
    }


def test_callers_reach_the_api_alone_and_operators_the_rest() -> None:
    everybody, api = (one("NetworkPolicy", name)["spec"] for name in ("neverstale", "neverstale-api"))
    [expression] = everybody["podSelector"]["matchExpressions"]
    assert set(expression["values"]) == set(ROLES) and set(everybody["policyTypes"]) == {"Ingress", "Egress"}
    assert [rule["ports"] for rule in everybody["ingress"]] == [[{"port": "service"}]]
    assert api["podSelector"]["matchLabels"] == {"neverstale/role": "api"}
    assert [rule["ports"] for rule in api["ingress"]] == [[{"port": "http"}]]


def test_roles_may_reach_every_server_of_theirs(tmp_path: Path) -> None:
    policies = [one("NetworkPolicy", name)["spec"] for name in ("neverstale", "neverstale-kafka")]
    open_ports = {port["port"] for spec in policies for rule in spec.get("egress", ()) for port in rule["ports"]}
    settings, _ = load(environment("consumer", "production", tmp_path))
    assert {int(settings.kafka.bootstrap_servers.rpartition(":")[2]), 27017, 6379, 53} == open_ports


@pytest.mark.parametrize("name", OVERLAYS)
def test_consumers_grow_with_the_lag_of_the_topic_and_never_beyond_its_partitions(name: str) -> None:
    scaled = one("ScaledObject", "neverstale-consumer")["spec"]
    kafka = shared(name)
    assert scaled["maxReplicaCount"] <= int(kafka["NEVERSTALE_KAFKA__PARTITIONS"])
    assert scaled["minReplicaCount"] >= 2
    [trigger] = scaled["triggers"]
    told = trigger["metadata"]
    assert told["topic"] == kafka["NEVERSTALE_KAFKA__TOPIC"] == Kafka().topic
    assert told["consumerGroup"] == kafka["NEVERSTALE_KAFKA__GROUP"]
    assert told["bootstrapServers"] == kafka["NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS"]
    assert told.keys() <= KAFKA_TRIGGER
    assert (told["tls"], told["sasl"]) == ("enable", "scram_sha512")
    shown = one("TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]["secretTargetRef"]
    assert {each["parameter"] for each in shown} <= KAFKA_SECRETS
    target = scaled["scaleTargetRef"]
    assert one(target["kind"], target["name"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_catalog_of_an_overlay_is_the_one_of_the_repository(name: str) -> None:
    assert (HERE / "overlays" / name / "catalog.toml").read_bytes() == (ROOT / "catalog.toml").read_bytes()


def test_an_update_takes_no_api_away_before_another_is_ready() -> None:
    assert workload("api")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
