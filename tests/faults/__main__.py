"""`make faults`: the experiments in full, and their controls; a table as text, and as JSON.

python -m tests.faults [NUMBER ...] [--seed N] [--rounds N] [--short] [--json FILE] [--no-controls]
"""

import argparse
import json
import sys
from pathlib import Path

import uvloop

from neverstale.role import telemetry
from neverstale.settings import Service
from tests.faults.experiments.catalogue import ALL
from tests.faults.rig.bench import Bench
from tests.faults.rig.conduct import conduct
from tests.faults.rig.experiment import Row


async def story(options: argparse.Namespace, bench: Bench) -> list[Row]:
    rows = []
    for experiment in ALL:
        if options.numbers and experiment.number not in options.numbers:
            continue
        if options.short and not experiment.short:
            continue
        rounds = experiment.short if options.short else experiment.long * options.rounds
        left_out = experiment.long_controls if options.short else ()
        rules = [None, *(rule for rule in experiment.controls if not (options.no_controls or rule in left_out))]
        for rule in rules:
            # A control has found what it must find long before the rounds that a rare fault asks for.
            row = await conduct(experiment, bench, (experiment.short or 1) if rule else rounds, options.seed, rule)
            print(row.as_text(), flush=True)
            if not row.passed:
                print(*row.examples, sep="\n", flush=True)
            rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="which experiments; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="multiplies the rounds of each experiment")
    parser.add_argument("--short", action="store_true", help="the form that runs in CI")
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument(
        "--data", type=Path, help="where servers and logs live, and stay; default: a temporary folder"
    )
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    bench = Bench(options.data)
    own_log = (bench.data / "logs" / "here.log").open("w")
    telemetry.configure_logging(Service(log_format="json"), own_log)
    try:
        rows = uvloop.run(story(options, bench))
    finally:
        bench.close()
    if options.json:
        options.json.write_text(json.dumps([row.as_json() for row in rows], indent=1))
    failed = [row for row in rows if not row.passed]
    print(f"{len(rows) - len(failed)} of {len(rows)} as they must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
