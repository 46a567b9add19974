"""Parts of the quantisation learners."""
