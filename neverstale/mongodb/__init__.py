"""MongoDB: what is read of it, its clock, and what its refusals mean."""
