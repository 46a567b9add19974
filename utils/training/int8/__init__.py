"""Networks that compute in 8 bits as their full-integer .tflite files will, for training."""
