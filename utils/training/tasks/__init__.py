"""What a network learns and how it is judged: tasks, objectives, evaluation."""
