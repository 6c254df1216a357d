"""The auditor: asks as readers do, and compares what it is told with MongoDB."""
