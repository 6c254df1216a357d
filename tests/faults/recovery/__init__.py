"""Recovery as a figure: for each single fault, seconds until every resource states at most a second again."""
