"""TensorFlow Lite files whose weights have few bits, through ai-edge-quantizer."""
