"""Channel groups, physical slicing, and exact MAC and parameter counts."""
