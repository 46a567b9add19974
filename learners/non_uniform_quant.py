"""NonUniformQuantLearner: trains further with weights that share the few values of a codebook.

Han et al. 2016, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization
and Huffman Coding" (arXiv:1510.00149). The weights of a layer are divided into 2^bits clusters by
k-means; each takes its cluster's centroid, and the centroids are trained: the gradient of an entry of
the codebook is the sum of those of its weights (section 3.3). With `--nuql_prune_ratio` small weights
are pruned first, in rounds (`quant.pruning`); zeros stay zeros. Row `deep-compression` has both.

The exported .tflite is a float file whose weights take few values; `.dc` holds codebooks, gaps between
weights and Huffman codes (`utils.deploy.packed`), and gives the .keras file back.

Deviations. By default an entry moves by the mean of its weights' steps (`--nuql_centroid_step sum` is
the paper's), and weights still choose their entry while they train (`--nuql_opt_mode centroids`
leaves each where k-means put it, as in the paper).
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.quant import pruning
from secateurs.learners.quant.allocation import buckets_by_name
from secateurs.learners.quant.codebooks import CodebookProjection
from secateurs.learners.quant.configs import NuqlConfig
from secateurs.learners.quant.state import NuqlState
from secateurs.learners.run.compression import CompressionLearner, extended
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.judging import judging_notes
from secateurs.learners.run.zeros import nonzeros
from secateurs.learners.weights.allocation import Site
from secateurs.learners.weights.schedule import round_density
from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.packed.export import stage_sizes, write_packed
from secateurs.utils.deploy.packed.halves import halve
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.hooks import Constraint, Hooks
from secateurs.utils.training.engine.masks import Masks, MaskSet
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.models.weights import kernels_by_name

_NOTE = (
  'The float .tflite file has the size of the original: its weights take few values, but each as 32 '
  'bits. The packed file (.dc) is unpacked before use.'
)


@register
class NonUniformQuantLearner(CompressionLearner):
  """Trains the baseline on while the weights of a layer share few values."""

  name = 'non-uniform-quant'
  aliases = ('non-uniform',)
  Config, State = NuqlConfig, NuqlState
  config: NuqlConfig
  state: NuqlState

  def compression_phases(self) -> list[Phase]:
    """Pruning in rounds where it was asked for, then shared weights."""
    pruned, (of_round, of_sharing) = [], self._steps()
    if self.config.prune_ratio:
      pruned = [
        Phase('allocate', self._allocate),
        *(
          Phase(f'round{number}', functools.partial(self._round, number), of_round)
          for number in range(1, self.config.nb_rounds + 1)
        ),
      ]
    share = Phase('share', self._share, of_sharing)
    return [*pruned, share]

  def prunable(self, model: keras.Model) -> dict[str, tf.Variable]:
    """The kernels that are pruned, where some are: all but the smallest."""
    kernels = kernels_by_name(model)
    return pruning.pruned_kernels(kernels) if self.config.prune_ratio else kernels

  def closing_phases(self) -> list[Phase]:
    """The packed file's bytes, with the weights that it will have."""
    return [Phase('stages', self._measure_stages)]

  def prepare(self) -> None:
    """Makes masks and codebooks, and checks what can be known before all work."""
    config = self.config
    if config.prune_ratio and not self.rates.fine_tune_steps():
      raise UserError(
        '--nuql_prune_ratio prunes while the network trains, but --nb_epochs_ft or --nb_epochs_rat '
        'give zero training steps: set --nb_epochs_ft above 0.'
      )
    kernels = kernels_by_name(self.model)
    self._pruned = self.prunable(self.model) if config.prune_ratio else {}
    pruned, allowed = list(self._pruned.values()), nonzeros(self.settings, self.model)
    self._masks = MaskSet(pruned, allowed=[allowed.get(kernel.ref()) for kernel in pruned])
    buckets = buckets_by_name(kernels, config)
    self._shadows = ShadowWeights(
      kernels,
      {
        name: CodebookProjection(
          buckets[name],
          self._bits(kernel),
          init=config.init_style,
          mode=config.opt_mode,
          step=config.centroid_step,
        )
        for name, kernel in kernels.items()
      },
    )

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Masks of the pruning, codebooks, and what weights choose their entry by."""
    return {**self._masks.tensors(list(self._pruned)), **self._shadows.tensors()}

  def further_formats(self) -> Mapping[str, Writer]:
    """The packed file."""
    return {'dc': functools.partial(write_packed, buckets=self._buckets)}

  def findings(self) -> Findings:
    """Bits by kernel, the packed file's bytes after each stage, and what pruning follows from."""
    kernels, state = kernels_by_name(self.model), self.state
    known = {'kept': state.kept, 'quality': state.quality, 'sensitivity': state.sensitivity}
    notes = [_NOTE]
    if self.config.prune_ratio:
      dense = sorted(set(kernels) - set(self._pruned))
      notes += [f'Left dense: {", ".join(dense)}.'] if dense else []
      notes += judging_notes(self.helper)
    return extended(
      super().findings(),
      notes,
      requested={'sparsity': self.config.prune_ratio} if self.config.prune_ratio else {},
      extra={
        'bits': {name: self._bits(kernel) for name, kernel in kernels.items()},
        'packed_bytes_by_stage': state.stages,
        **{name: value for name, value in known.items() if value is not None},
      },
    )

  def _bits(self, kernel: tf.Variable) -> int:
    dense = self.config.dense_bits if kernel.shape.rank == 2 else None
    return dense or self.config.weight_bits

  def _buckets(self, model: keras.Model) -> dict[str, tuple[tf.Variable, Buckets]]:
    kernels = kernels_by_name(model)
    found = buckets_by_name(kernels, self.config)
    return {name: (kernel, found[name]) for name, kernel in kernels.items()}

  # Pruning.

  def _allocate(self) -> None:
    self.say_judging()
    site = Site.of(self, self.prunable, lambda: self.files.trials)  # It only scans.
    found = pruning.allocate(site, self.config, self.state, self.save_search)
    self.state.kept, self.state.quality = found

  def _steps(self) -> tuple[int, int]:
    """Training steps of each round of pruning, and of the shared weights."""
    total, config = self.rates.fine_tune_steps(), self.config
    if not config.prune_ratio:
      return 0, total
    each = max(round(total * config.prune_share / config.nb_rounds), 1)
    return each, max(total - each * config.nb_rounds, 1)

  def _round(self, number: int) -> None:
    """Pruned weights stay pruned, survivors keep their values and train on."""
    phase, nb_steps = f'round{number}', self._steps()[0]
    if self.session.starts_over(phase):
      sizes = [int(np.prod(kernel.shape)) for kernel in self._pruned.values()]
      shares = [self.state.kept[name] / n for name, n in zip(self._pruned, sizes, strict=True)]
      self._masks.update(
        [1 - round_density(number, self.config.nb_rounds, share) for share in shares],
        revive=False,
      )
    self._train(phase, nb_steps, self._masks, self._masks, last=False)

  # Shared weights.

  def _share(self) -> None:
    if self.session.starts_over('share'):
      self._shadows.start()
    nb_steps = self._steps()[1]
    if nb_steps:
      self._train('share', nb_steps, self._shadows, self._shadows.masks, last=True)

  def _train(
    self, phase: str, nb_steps: int, constraint: Constraint, masks: Masks, *, last: bool
  ) -> None:
    self.fit(
      phase,
      self.objective(),
      self.rates.fine_tune_optimizer(nb_steps, masks),
      nb_steps=nb_steps,
      hooks=Hooks(constraints=[constraint]),
      averaged=last,
    )

  def _measure_stages(self) -> None:
    """Rounds the weights that the file has to 16 bits, and keeps its bytes after each stage."""
    halve(self.model)
    model = self.helper.task.deployable(self.compressed_model())

    def measure() -> dict[str, int]:
      with tempfile.TemporaryDirectory() as folder:
        return stage_sizes(model, self._buckets, Path(folder))

    self.state.stages = distributed.from_chief(measure)
    shown = ', '.join(f'{stage} {number}' for stage, number in self.state.stages.items())
    say(f'packed bytes by stage  {shown}')
