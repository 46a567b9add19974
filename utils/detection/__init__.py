"""The mathematics of single-shot detection: boxes, matching, loss, suppression, average precision."""
