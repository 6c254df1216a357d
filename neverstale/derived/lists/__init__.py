"""Lists: pages of documents in one order. What MongoDB is asked for them, and where a page begins."""
