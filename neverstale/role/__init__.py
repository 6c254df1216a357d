"""What every role lives by: its life, its tasks, its logs and metrics."""
