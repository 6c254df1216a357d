"""Rankings: what a batch moves in them, how Redis holds them, and what MongoDB says of them."""
