"""What learners stand on: channel graph, training engine, deployment. Knows no learner."""
