"""A role in which rules do not hold: RULE|RULE run ROLE."""

import sys
from contextlib import ExitStack

from tests.faults.rig.sabotage import SEPARATOR, without


def main(argv: list[str]) -> None:
    from neverstale.ops import cli

    names, *command = argv
    with ExitStack() as stack:
        for name in names.split(SEPARATOR):
            stack.enter_context(without(name))
        sys.argv = ["neverstale", *command]
        cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
