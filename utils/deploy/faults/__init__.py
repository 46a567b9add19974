"""What a TensorFlow Lite runtime computes wrongly: finding the layer, and going around it."""
