"""How many channels stay in each layer."""
