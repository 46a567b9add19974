"""Parts of sparse pruning: patterns, ratios by kernel, sensitivity and search."""
