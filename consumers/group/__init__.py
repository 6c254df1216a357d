"""The group: one member's partitions, offsets and membership."""
