"""What a reader sees of a run: the JSON report, the terminal, pages and scripts."""
