"""Why an item fails: its smallest case, where it fails, and its cause."""
