"""Which channels to keep: scores, targets, and what a choice costs."""
