"""How what stays makes up for what went."""
