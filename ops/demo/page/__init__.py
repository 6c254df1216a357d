"""The departures board as a web page, on live reads of the API; it also freezes consumers, to show what bounds do."""
