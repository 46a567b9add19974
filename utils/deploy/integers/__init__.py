"""A model of full-integer .tflite networks in NumPy's whole numbers, operator by operator."""
