"""Tables of latencies: what each layer takes at each number of channels, measured on a device."""
