"""MongoDB to Kafka: the watcher."""
