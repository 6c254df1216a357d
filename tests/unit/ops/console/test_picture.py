"""What the page is given."""

from typing import Any

from neverstale.catalog import Catalog
from neverstale.ops.console.looks import QuickLook
from neverstale.ops.console.picture import Seen, picture
from tests.unit.ops.console.looks import SETTINGS, long_look, look, process, well

CATALOG = Catalog.model_validate({"database": "nyc", "resources": {"flights": {"key_type": "string"}}})


def shown(*looks: QuickLook) -> dict[str, Any]:
    return picture(Seen(looks, [long_look(95.0), long_look(100.0, 9)], [], [], {}), SETTINGS, CATALOG, 1.0)


def figure(picture: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((one for one in picture["figures"] if one["name"] == name), None)


def test_rates_are_of_what_processes_have_counted_between_the_first_and_the_last_look() -> None:
    first = look(process("api", reads_total__hit=100, reads_total__miss=10, l1_hits_total=50, bound_seconds=0.1))
    last = look(
        process("api", reads_total__hit=150, reads_total__miss=20, l1_hits_total=80, bound_seconds=0.1), at=105.0
    )
    made = shown(first, last)
    rates = {one["how"]: one["rate"] for one in made["reads"]}
    assert rates == {"memory": 6, "Redis": 4, "miss": 2, "stale": 0, "bypass": 0, "request": 0}
    assert round(sum(one["share"] for one in made["reads"]), 9) == 1
    assert made["flows"]["read"] == {"rate": "12", "unit": "reads", "lag": ""}


def test_a_process_that_is_new_or_alone_in_time_has_no_rate_yet() -> None:
    new = look(process("api", reads_total__hit=1000), at=105.0)
    assert shown(look(), new)["flows"]["read"]["rate"] == shown(new)["flows"]["read"]["rate"] == "0"


def test_the_slowest_partition_comes_first_and_one_without_a_mark_before_it() -> None:
    rows = shown(well(age_ms=(100, 9000, None)))["partitions"]
    assert [(one["partition"], one["stands"]) for one in rows] == [(2, True), (1, True), (0, False)]
    assert rows[1]["owner"] == "consumer-1"


def test_stages_say_who_is_away_and_who_is_silent() -> None:
    seen = look(process("watcher", watcher_leads=1), process("consumer", "silent"), away=("kafka",))
    states = {name: one["state"] for name, one in shown(seen)["stages"].items()}
    assert states == {
        "mongodb": "ok",
        "watcher": "ok",
        "kafka": "away",
        "consumer": "silent",
        "redis": "ok",
        "api": "away",
    }


def test_what_an_auditor_has_found_is_shown_when_one_runs() -> None:
    name = "answers that an auditor found true"
    assert figure(shown(well()), name) is None
    good = figure(shown(look(process("auditor", audit_nines=4.26))), name)
    assert good == {"name": name, "value": "4.3 nines in the last hour", "well": True}
    bad = figure(shown(look(process("auditor", audit_nines=1.0, audit_wrong_total=2))), name)
    assert bad is not None and not bad["well"] and bad["value"].endswith("; 2 were wrong")
