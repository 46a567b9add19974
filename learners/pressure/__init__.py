"""Pressure on channels while a network trains: penalties, proximal steps, gates, regrowing."""
