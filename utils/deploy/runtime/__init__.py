"""The TensorFlow Lite runtime: its interpreter, and what it takes."""
