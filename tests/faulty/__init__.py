"""Small wrong layers, each with one fault of calls, memory, shapes or numbers, for the tests of the probes."""
