"""What a run ends in: measured files, the report, the plan of what was cut."""
