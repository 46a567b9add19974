"""What every learner is made of: settings, phases, training, checkpoints, measuring, reports."""
