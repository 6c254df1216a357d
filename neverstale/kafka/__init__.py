"""Kafka: the topic of changes, its records, and dead letters."""
