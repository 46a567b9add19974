"""Cuts a small ViT with its norms kept and cut: python scripts/bench_transformer.py [SEED ...].

A ViT of two blocks (16 tokens, a stream of 32, four heads of 8) is trained on 1,300 handwritten digits
for 60 epochs. It is cut to half of its MACs by chn-pruned (auto) and filter-pruned (L1, uniform), trunk
coupled and whole heads, with --<prefix>norms keep and cut. Then it is fine-tuned for 10 epochs.
Prints accuracies on the other 497 digits: of the original, after the cut, and after fine-tuning.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

from secateurs.learners import get_learner  # noqa: E402
from secateurs.learners.run.configs import RunConfig, TrainConfig  # noqa: E402
from secateurs.nets.model_helper import ModelHelper  # noqa: E402

L = keras.layers
STREAM, HEADS, WIDTH, BLOCKS, TOKENS = 32, 4, 8, 2, 16
NB_TRAIN, BATCH, EPOCHS, TUNE = 1300, 64, 60, 10
CONFIGS = {
  'chn-pruned': {'prune_option': 'auto', 'preserve_ratio': 0.5},
  'filter-pruned': {'preserve_ratio': 0.5},
}


def attention(x: tf.Tensor) -> tf.Tensor:
  """Attention by hand over [batch, tokens, channels]."""
  split = (-1, TOKENS, HEADS, WIDTH)
  q, k, v = (
    tf.transpose(tf.reshape(L.Dense(HEADS * WIDTH)(x), split), [0, 2, 1, 3]) for _ in range(3)
  )
  scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * WIDTH**-0.5)
  y = tf.transpose(tf.matmul(scores, v), [0, 2, 1, 3])
  return L.Dense(STREAM)(tf.reshape(y, [-1, TOKENS, HEADS * WIDTH]))


def vit() -> keras.Model:
  """A ViT for 8x8 images, which has its positions from a depthwise convolution (as Chu et al. 2021)."""
  image = keras.Input((8, 8, 1))
  x = L.Conv2D(STREAM, 2, 2)(image)
  x = L.Reshape((TOKENS, STREAM))(L.Add()([x, L.DepthwiseConv2D(3, padding='same')(x)]))
  for _ in range(BLOCKS):
    x = L.Add()([x, attention(L.LayerNormalization()(x))])
    y = L.Dense(4 * STREAM, 'gelu')(L.LayerNormalization()(x))
    x = L.Add()([x, L.Dense(STREAM)(y)])
  x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
  return keras.Model(image, L.Dense(10, 'softmax')(x))


def compiled(model: keras.Model, rate: object) -> keras.Model:
  """The model with Adam at a learning rate."""
  model.compile(keras.optimizers.Adam(rate), 'sparse_categorical_crossentropy', ['accuracy'])
  return model


def main(seeds: list[int]) -> None:
  """Prints one line for each seed, learner and choice of norms."""
  images, labels = load_digits(return_X_y=True)
  order = np.random.RandomState(0).permutation(len(images))
  images, labels = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)[order], labels[order]
  train, test = (images[:NB_TRAIN], labels[:NB_TRAIN]), (images[NB_TRAIN:], labels[NB_TRAIN:])
  for seed in seeds:
    keras.utils.set_random_seed(seed)
    steps = EPOCHS * -(-NB_TRAIN // BATCH)
    model = compiled(vit(), keras.optimizers.schedules.CosineDecay(3e-3, steps))
    model.fit(*train, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    helper = ModelHelper.from_model(compiled(model, 1e-3), train, test)
    for name, config in CONFIGS.items():
      for norms in ('keep', 'cut'):
        cls = get_learner(name)
        given = cls.Config(**config, trunk='couple', norms=norms, heads='whole')
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
          run = RunConfig(run_dir=folder, bench_frames=1, bench_threads='1', seed=seed)
          training = TrainConfig(nb_epochs_ft=TUNE, batch_size=BATCH)
          result = cls(helper, given, run=run, training=training).train()
        report, norm = (
          result.report,
          next(one for one in result.model.layers if isinstance(one, L.LayerNormalization)),
        )
        scores = ', '.join(
          f'{100 * report[part]["score"]["value"]:.2f} %'
          for part in ('original', 'pruned', 'compressed')
        )
        print(
          f'seed {seed}, {name}, norms {norms}: {scores}; '
          f'{report["achieved"]["macs_ratio"]:.3f} of the MACs, stream {norm.gamma.shape[0]}',
          flush=True,
        )


if __name__ == '__main__':
  main([int(one) for one in sys.argv[1:]] or [0, 1, 2])
