"""Reads: from an ask to an answer, through L1, Redis or MongoDB. No HTTP here."""
