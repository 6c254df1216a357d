"""What tests of all kinds need."""
