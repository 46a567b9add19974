"""report.json and the pages that are drawn from it."""
