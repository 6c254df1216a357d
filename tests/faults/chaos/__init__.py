"""The long storm: everything that can fail does, in an order that a seed chooses, while an auditor asks."""
