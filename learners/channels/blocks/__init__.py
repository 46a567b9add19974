"""Parts of discrimination-aware pruning: one block after another."""
