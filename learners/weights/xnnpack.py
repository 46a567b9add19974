"""Which kernels XNNPACK, TensorFlow Lite's CPU runtime, has sparse kernels for.

tfmot's `PruneForLatencyOnXNNPack` decides: 1x1 convolutions between a 3x3 stem with stride 2 and a
global average pooling (Elsen et al. 2020, "Fast Sparse ConvNets", arXiv:1911.09723).
"""

from __future__ import annotations

from collections.abc import Collection

import tf_keras as keras

from secateurs.utils.errors import UserError, first_line

XNNPACK_NOTE = (
  'XNNPACK takes its sparse kernels on ARM, and on x86 where there is no AVX. On x86 with AVX it runs '
  'the sparse .tflite file as it runs the dense one: the latencies of this report, where they were '
  'measured on such a machine, are not those of the device.'
)


def xnnpack_kernels(model: keras.Model, names: Collection[str]) -> set[str]:
  """Those of some kernels (by layer name) that the runtime runs faster when they are sparse.

  Raises:
    UserError: a layer of the network stands in the way; it is named.
  """
  from tensorflow_model_optimization.sparsity.keras import PruneForLatencyOnXNNPack

  class Policy(PruneForLatencyOnXNNPack):
    """Remembers the layer that is not supported: the original's message names its class only."""

    blocking: keras.layers.Layer | None = None

    def _check_layer_support(self, layer: keras.layers.Layer) -> bool:
      supported = super()._check_layer_support(layer)
      if not supported:
        self.blocking = layer
      return supported

  policy = Policy()
  try:
    policy.ensure_model_supports_pruning(model)
  except ValueError as error:
    layer = policy.blocking
    if layer is None:
      reason = first_line(error)
    else:
      reason = f'layer {layer.name} ({type(layer).__name__}) has no sparse kernel'
    raise UserError(
      f'--ws_policy xnnpack does not fit {model.name} ({reason}): it takes nets of 1x1 and depthwise '
      'convolutions between a ZeroPadding2D(1) with a valid 3x3 stride-2 stem and a '
      'GlobalAveragePooling2D with keepdims, such as MobileNets of 224x224 images with '
      '--mobilenet_padding symmetric; leave the flag out for others.'
    ) from error
  allowed = {layer.name for layer in model.layers if policy.allow_pruning(layer)}
  # The head after the pooling is a 1x1 convolution, too, where the net has no Dense layer.
  return {name for name in names if name.split('/')[0] in allowed}
