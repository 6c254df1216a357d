"""Fuzzers of all that decodes bytes from outside. `make fuzz SECONDS=60`; what they found stays in `corpus`."""
