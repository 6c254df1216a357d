"""Derived data on the consumers' side: applied with each batch, built, and looked after."""
