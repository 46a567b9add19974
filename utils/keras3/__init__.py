"""Models of Keras 3: in as tf_keras models, out again as .keras files of Keras 3.

Neither TensorFlow nor Keras 3 is loaded before it is needed.
"""

from secateurs.utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    '.incoming': ('to_tf_keras',),
    '.outgoing': ('save_keras3', 'to_keras3'),
    '.kinds': ('is_keras3', 'load_keras3'),
  },
)
