"""The week of flights: its documents, what happened to them, and who writes that."""
