"""The ground floor: what all roles share. Imports no role."""

__version__ = "0.1.0"
