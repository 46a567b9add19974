"""Export, parity, latency and the report of a run."""
