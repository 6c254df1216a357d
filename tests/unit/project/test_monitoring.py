"""The rules and dashboards in deploy/: valid, about metrics that exist, and tested."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from neverstale.role import telemetry
from tests.support.project import ROOT

PROMTOOL: Final = shutil.which("promtool")
RULES: Final = ROOT / "deploy" / "prometheus"
DASHBOARDS: Final = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
OF_THE_COLLECTOR: Final = frozenset(("process_resident_memory_bytes", "process_cpu_seconds_total"))

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH")


def promtool(*arguments: str) -> None:
    ended = subprocess.run([PROMTOOL or "", *arguments], cwd=RULES, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def alerts() -> list[dict[str, Any]]:
    read = yaml.safe_load((RULES / "neverstale.rules.yml").read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


def queries(dashboard: Path) -> Iterator[str]:
    for panel in json.loads(dashboard.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def declared() -> dict[str, set[str]]:
    """Every series -> its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(telemetry).values():
        if isinstance(metric, MetricWrapperBase):
            [family] = metric.describe()
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            found |= {family.name + suffix: set(metric._labelnames) for suffix in suffixes}
    return found


def unknown(query: str) -> list[str]:
    """What a query names that no role shows."""
    known = declared()
    names = set(re.findall(r"\b(?:neverstale|process)_\w+", query))
    wrong = sorted(names - known.keys() - OF_THE_COLLECTOR)
    labels = {"job", "instance", "le"}.union(*(known.get(name, set()) for name in names))
    used = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    used |= {label for inside in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)\s*[=!]", inside)}
    return wrong + sorted(used - labels)


def test_a_query_of_what_does_not_exist_is_noticed() -> None:
    assert unknown('sum by (color) (neverstale_reads{how="hit"})') == ["neverstale_reads", "color", "how"]


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_is_about_metrics_that_exist_and_says_what_to_do(alert: dict[str, Any]) -> None:
    assert unknown(alert["expr"]) == []
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"] and alert["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: str(path.stem))
def test_a_dashboard_shows_metrics_that_exist(dashboard: Path) -> None:
    assert {query: unknown(query) for query in queries(dashboard) if unknown(query)} == {}


def test_dashboards_lie_on_the_grid_and_have_names_of_their_own() -> None:
    read = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({each["uid"] for each in read}) == len(read) == 3
    for each in read:
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in each["panels"])
        assert len({panel["id"] for panel in each["panels"]}) == len(each["panels"])


UNITS: Final = frozenset(("s", "none", "short", "percentunit", "reqps", "ops", "bytes"))
"""Of Grafana's own list, those that our panels use."""


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: str(path.stem))
def test_a_dashboard_is_of_the_shape_that_grafana_imports_beside_any_prometheus(dashboard: Path) -> None:
    read = json.loads(dashboard.read_text())
    assert isinstance(read["schemaVersion"], int) and "id" not in read
    [variable] = read["templating"]["list"]
    assert (variable["type"], variable["query"], variable["name"]) == ("datasource", "prometheus", "datasource")
    for panel in read["panels"]:
        assert panel["type"] in ("stat", "timeseries") and panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters)) and all(target["expr"] for target in panel["targets"])
    places = [panel["gridPos"] for panel in read["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels lie over each other"


def test_compose_mounts_what_prometheus_and_grafana_are_told_to_read() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = {
        mount["target"]: ROOT / mount["source"]
        for name in ("prometheus", "grafana")
        for mount in services[name]["volumes"]
    }
    assert all(services[name]["profiles"] == ["monitoring"] for name in ("prometheus", "grafana"))
    config = yaml.safe_load((mounts["/etc/prometheus"] / "prometheus.yml").read_text())
    assert all((mounts["/etc/prometheus"] / file).is_file() for file in config["rule_files"])
    provisioning = mounts["/etc/grafana/provisioning"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "neverstale.yml").read_text())["providers"]
    assert sorted(mounts[provider["options"]["path"]].glob("*.json")) == DASHBOARDS
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (mounts[str(Path(home).parent)] / Path(home).name).is_file()
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and source["type"] == "prometheus"
    for dashboard in DASHBOARDS:
        [variable] = json.loads(dashboard.read_text())["templating"]["list"]
        assert variable["current"]["value"] == source["uid"]


@pytest.mark.parametrize(
    ("alert", "after", "of"),
    [
        ("NeverstaleBoundWide", "5m", "neverstale_bound_seconds) > 5"),
        ("NeverstaleBoundUnknown", "1m", "absent(neverstale_bound_seconds)"),
        ("NeverstaleNoLeader", "2m", "(neverstale_watcher_leads) == 0"),
        ("NeverstaleTwoLeaders", "2m", "(neverstale_watcher_leads) > 1"),
        ("NeverstaleOplogShort", "5m", "neverstale_oplog_headroom_seconds"),
        ("NeverstaleConsumerStands", "2m", "neverstale_consumer_lag_records"),
        ("NeverstaleHitRatioFalls", "5m", "neverstale_loads_total"),
        ("NeverstaleDeadLetters", None, "neverstale_records_poison_total"),
        ("NeverstaleDamaged", None, "neverstale_damaged_total"),
        ("NeverstaleAnswersWereWrong", None, "neverstale_audit_wrong_total"),
    ],
)
def test_what_somebody_must_be_woken_for_is_an_alert(alert: str, after: str | None, of: str) -> None:
    [rule] = [one for one in alerts() if one["alert"] == alert]
    assert rule.get("for") == after and of in rule["expr"]


def test_every_alert_is_tested() -> None:
    tested = (RULES / "neverstale.test.yml").read_text()
    assert [alert["alert"] for alert in alerts() if f'"{alert["alert"]}"' not in tested] == []


@needs_promtool
def test_the_rules_are_quiet_until_something_happens_and_then_fire() -> None:
    promtool("check", "rules", "neverstale.rules.yml")
    promtool("test", "rules", "neverstale.test.yml")


@needs_promtool
def test_prometheus_understands_its_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


@needs_promtool
@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: str(path.stem))
def test_prometheus_understands_every_query_of_a_dashboard(dashboard: Path, tmp_path: Path) -> None:
    records = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries(dashboard))]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    promtool("check", "rules", str(path))
