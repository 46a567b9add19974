"""What a channel is worth."""
