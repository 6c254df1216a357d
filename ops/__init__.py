"""The operator's tools: the command line, the local stack, audit, doctor and bench."""
