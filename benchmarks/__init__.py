"""Speed and memory on this machine: `python -m benchmarks`, or one of its parts."""
