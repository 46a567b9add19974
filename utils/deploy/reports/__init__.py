"""What a report holds, and how its numbers are written for people."""
