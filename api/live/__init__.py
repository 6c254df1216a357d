"""Live reads: streams of the states of a document, a page, a counter or a ranking (docs/live.md)."""
