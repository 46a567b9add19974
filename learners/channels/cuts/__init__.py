"""What structured pruning cuts: units of the channel graph, and how they are cut."""
