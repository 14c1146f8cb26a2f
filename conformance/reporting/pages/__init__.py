"""The report as people read it in a browser and on GitHub: a page, a summary for CI and annotations."""
