"""Networks, data sets, and the helpers that combine them into experiments."""
