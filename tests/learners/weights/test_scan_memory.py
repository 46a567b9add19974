"""What measuring kernels takes, by hand."""

from pathlib import Path

import tf_keras as keras

from secateurs.learners.run.preflight.budget import Budget
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.scan_memory import scan_needs

MB, GB = 1 << 20, 1 << 30


def test_scans_and_searches_hold_networks_samples_and_sums():
  layers = keras.layers
  inputs = keras.Input((64, 64, 3))
  x = layers.Conv2D(16, 3, padding='same', use_bias=False, name='conv')(inputs)
  x = layers.DepthwiseConv2D(3, padding='same', use_bias=False, name='depthwise')(x)
  model = keras.Model(inputs, layers.Dense(10, name='dense')(layers.GlobalAveragePooling2D()(x)))
  names = ['conv', 'depthwise', 'dense']
  roomy, tight = (Budget(limit, 10 * MB, Path('.')) for limit in (8 * GB, 64 * MB))

  def needs(budget=roomy, **flags):
    return scan_needs(budget, model, names, WsConfig(**flags), 16)

  assert needs() == []
  image, largest = 4 * 3 * 64**2, 4 * 16 * 64**2  # Bytes.
  inference, training = 500 * 2 * largest, image + 2 * largest + 4 * 16 + 2 * largest
  inference = min(inference, 256 * MB)
  judged = 2000 * image
  assert judged < 256 * MB  # So that they are kept in float32.
  maps = 2000 * 2 * 16 * 64**2
  (scan,) = needs(prune_ratio_prtl='sensitivity', jobs=2)
  assert scan.bytes == scan.least == roomy.taken + 10 * MB + 3 * judged + 2 * (maps + inference)
  search = {'prune_ratio_prtl': 'optimal', 'jobs': 2, 'nb_iters_feval': 5}
  held = 2 * 6 * 10 * MB + 8 * (27**2 + 16**2) + 3 * 5 * 16 * image
  (found,) = needs(**search)
  assert found.bytes == found.least == roomy.taken + held + 2 * (GB + inference)
  (one,) = needs(tight, prune_ratio_prtl='optimal', nb_smpls_scan=8000)
  held = 6 * 10 * MB + 8 * (27**2 + 16**2) + 2 * 8000 * image // 2
  assert one.least == tight.taken + held + max(GB + inference, 16 * training)
