"""`python -m ops.cli` is the console script `neverstale`."""

from ops.cli.commands import main

if __name__ == "__main__":
    main()
