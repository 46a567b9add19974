"""Parts of structured pruning: units, criteria, allocation, refits, search and latency targets."""
