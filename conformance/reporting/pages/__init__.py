"""The report as people read it: a page, a summary for CI and annotations, each made from the JSON report's content."""
