"""What operators see of an API, and the port on which they see it."""
