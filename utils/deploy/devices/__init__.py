"""What .tflite files take on small devices: memory of activations, microcontrollers, NPUs."""
