"""What is looked at before any work: obstacles, memory, whose folder it is."""
