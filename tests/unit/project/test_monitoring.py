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
