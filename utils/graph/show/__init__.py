"""Tables of counts and pictures of channel groups."""
