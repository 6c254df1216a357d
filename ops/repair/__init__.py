"""Repair: commands that prove, rebuild or warm what is cached."""
