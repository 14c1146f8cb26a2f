"""How an implementation is judged, explained and reported. No module here knows a layer by name."""
