"""Apache Kafka as processes of ours: where it is from, how a broker starts, and what makes that quick."""
