"""Compression algorithms and what they share."""
