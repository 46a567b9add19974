"""From a choice of channels to a smaller model: plan, build, compare with masking, save."""
