"""`python -m neverstale.ops.cli` is the console script `neverstale`."""

from neverstale.ops.cli.commands import main

if __name__ == "__main__":
    main()
