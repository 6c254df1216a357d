"""Kinds: all that the kernel decides about a kind of derived data, one file a kind; see `kinds.kind` and
CONTRIBUTING.md. What is large has a room beside this one."""
