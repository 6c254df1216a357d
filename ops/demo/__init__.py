"""The demo: a departures board on the whole pipeline, with writers, readers and an oracle that checks them."""
