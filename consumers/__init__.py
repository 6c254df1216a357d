"""Kafka to Redis: the consumers."""
