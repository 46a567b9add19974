"""The compiled training loop with its hooks: penalties, constraints, masks, events, optimizers."""
