"""Networks, data sets, and the helpers that tie them together."""
