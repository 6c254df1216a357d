"""HTTP as such: what a request says, and how an answer says it. Knows nothing of MongoDB or Redis."""
