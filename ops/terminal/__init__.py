"""How commands talk to people and programs."""
