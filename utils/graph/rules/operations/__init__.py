"""Rules of TensorFlow operations that are called on Keras tensors (`x * 2`, `tf.nn.relu(x)`)."""
