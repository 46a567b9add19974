"""How networks are trained and judged in a run."""
