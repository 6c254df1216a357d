"""The group: one member's partitions, offsets and place among the consumers."""
