"""The compiled training loop, masks, checkpoints and schedules."""
