"""Dead letters in the operator's hands."""
