"""Which cases are asked, and how many."""
