"""Full-integer .tflite files that keep their score: what each layer loses, and how it is repaired.

All of it works on files: a float .tflite file, whose normalisations and ReLUs are folded into the
layers already, and the integer file that is made of it.
"""
