"""The local stack: MongoDB, Kafka, Redis and the roles as child processes on loopback, without Docker."""
