"""Records: what comes from Kafka, folded into batches, and what of it cannot be believed."""
