"""UniformQuantLearner: trains on with weights and activations on uniform grids.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference" (arXiv:1712.05877):

  r = S (q - Z)                                                                          (eq. 1)

with q a whole number of few bits. The forward pass computes with rounded weights and activations,
gradients pass straight through to exact weights. Weights and activations may have 2 to 16 bits, by
layer where a budget is given: each kernel is rounded alone to each number of bits, the divergence of
the network's outputs is measured (`run.divergence`), and the sum of the divergences within the budget
is minimised exactly; a search by Optuna may follow.

The smallest file that TensorFlow Lite can hold is written as `_quant.tflite` and is what is evaluated
and timed: weights of up to 4 bits in 4 bits, others in 8 (`utils.deploy.lowbits`).

Deviations. Grids of weights are fit once, when the training starts, and by least squares
(`--uql_clip`); the paper takes the range of the weights at each step. Normalisation is not folded while
training: with a grid for each channel or layer, folding scales the grid and changes no integer. The
file's ranges of activations come from calibration images, not from the moving averages of the training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.quant.allocation import BitAllocation, shadows
from secateurs.learners.quant.configs import FLOAT_BITS, UqlConfig
from secateurs.learners.quant.containers import file_bits, larger_note, wider_note
from secateurs.learners.quant.state import UqlState
from secateurs.learners.run.compression import CompressionLearner, extended
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import MEASURE, Phase
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.judging import judging_notes
from secateurs.learners.run.training.trials import require_optuna
from secateurs.learners.run.training.workers import require_alike
from secateurs.learners.weights.allocation import Site
from secateurs.utils.deploy.files.export_files import Writer
from secateurs.utils.deploy.lowbits.export import write_quantized
from secateurs.utils.deploy.lowbits.writer import require_library
from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.memory import MapBytes, map_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.rounded_activations import calibrate, rounded_twin
from secateurs.utils.training.models.weights import named_weights


@register
class UniformQuantLearner(CompressionLearner):
  """Trains the baseline on while its weights and activations take few, evenly spaced values."""

  name = 'uniform-quant'
  aliases = ('uniform',)
  Config, State = UqlConfig, UqlState
  config: UqlConfig
  state: UqlState

  def compression_phases(self) -> list[Phase]:
    """Bits by layer where there is a budget, then the training."""
    allocate = [Phase('allocate', self._allocate)] if self.config.allocates else []
    return [*allocate, Phase('quantize', self._quantize, self.rates.fine_tune_steps())]

  def prepare(self) -> None:
    """Makes the rounding network and the shadows, and checks what can be known before all work."""
    config = self.config
    require_library()
    if self.settings.quantization.enbl_qat:
      raise UserError(
        '--enbl_qat trains another 8-bit twin of what uniform-quant has rounded already: leave it out.'
      )
    if config.enbl_search:
      require_optuna(config.nb_rlouts)
    require_alike(config.jobs, 'uql_jobs', self.model if config.enbl_search else None)
    rounds = config.activation_bits < FLOAT_BITS
    self._network = rounded_twin(self.model, config.activation_bits) if rounds else self.model
    kernels = self.prunable(self._network)
    self._shadows = shadows(kernels, config, self._bits(kernels))

  def networks(self) -> Mapping[str, keras.Model]:
    """The network that rounds activations."""
    rounding = {} if self._network is self.model else {'rounding': self._network}
    return {**super().networks(), **rounding}

  def training_maps(self) -> MapBytes:
    """Those of the network that rounds activations."""
    return map_bytes(flatten_model(self._network))

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Exact weights, grids, and which weights stay."""
    return self._shadows.tensors()

  def work_of(self, phase: str) -> Work:
    """As of all learners; the packed file is evaluated and timed, too."""
    packed = Work(self.helper.nb_samples('eval'), 0, 1) if phase == MEASURE else Work()
    return super().work_of(phase) + packed

  def further_formats(self) -> Mapping[str, Writer]:
    """The smallest file that TensorFlow Lite can hold."""
    bits = self.config.container_bits
    return {'tflite_quant': functools.partial(write_quantized, activation_bits=bits)}

  def findings(self) -> Findings:
    """Bits by kernel and their mean, with what they follow from."""
    config, kernels = self.config, self.prunable(self.model)
    bits = self._bits(kernels)
    sizes = [int(np.prod(kernel.shape)) for kernel in kernels.values()]
    mean = float(np.average(list(bits.values()), weights=sizes))
    held = file_bits(self.model, kernels, bits, config)
    wider = wider_note(held, bits, config)
    known = {'divergence': self.state.divergence, 'search': self.state.search}
    return extended(
      super().findings(),
      [*self._notes(mean), *([] if wider is None else [wider])],
      requested={} if config.target_bytes is None else {'max_bytes': config.target_bytes},
      extra={
        'bits': bits,
        'mean_bits': mean,
        'file_bits': held,
        'activation_bits': config.activation_bits,
        **{name: value for name, value in known.items() if value is not None},
      },
    )

  def _measure(self) -> None:
    super()._measure()
    target, report = self.config.target_bytes, self.session.state.report
    if target is None:
      return
    found = (report['compressed'].get('quant') or {}).get('bytes')
    report['achieved']['max_bytes'] = found
    note = larger_note(target, found)
    if note is not None:
      report['notes'].insert(0, note)
      say(f'Warning: {note}')

  def _notes(self, mean_bits: float) -> list[str]:
    config = self.config
    asked = '' if config.equivalent_bits is None else f', {config.equivalent_bits:g} were asked for'
    notes = [f'Weights of kernels have {mean_bits:.2f} bits on average{asked}.']
    if config.activation_bits not in (8, 16, FLOAT_BITS):
      notes.append(
        f'The file holds activations in {config.container_bits} bits, more than the '
        f'{config.activation_bits} that were trained for.'
      )
    if config.use_buckets and config.bucket_type == 'split':
      notes.append(
        'TensorFlow Lite has no grids of split buckets: the file holds their weights in 8 bits, '
        'rounded once more.'
      )
    most = max(self._bits(self.prunable(self.model)).values())
    if most > 8:
      notes.append('TensorFlow Lite holds weights in 8 bits at most: those of more are rounded.')
    elif most == 8 and not config.symmetric:
      notes.append(
        'TensorFlow Lite has no asymmetric grids of weights: the file holds those of 8 bits on '
        'symmetric ones, rounded once more.'
      )
    return notes + (judging_notes(self.helper) if config.allocates else [])

  def _bits(self, kernels: Mapping[str, tf.Variable]) -> dict[str, int]:
    return self.state.bits or dict.fromkeys(kernels, self.config.weight_bits)

  def _allocate(self) -> None:
    config = self.config
    self.say_judging()
    site = Site.of(self, self.prunable, functools.partial(self.search_file, self.state))
    allocation = BitAllocation(site, config, self.state, self.save_search)
    bits = allocation.by_search() if config.enbl_search else allocation.by_divergence()
    self.state.bits = bits
    say('bits  ' + ', '.join(f'{name} {number}' for name, number in bits.items()))

  def _quantize(self) -> None:
    if self.session.starts_over('quantize'):
      if self._network is not self.model:
        self._copy_weights(self.model, self._network)
        images = self.helper.calibration_images(self.settings.run.nb_smpls_calib)
        calibrate(self._network, self.model, images)
      for name, bits in self._bits(self._shadows.kernels).items():
        self._shadows.projections[name].bits = bits
      self._shadows.start()
    nb_steps = self.rates.fine_tune_steps()
    if nb_steps:
      self.fit(
        'quantize',
        self.objective(self._network),
        self.rates.fine_tune_optimizer(nb_steps, self._shadows.masks),
        nb_steps=nb_steps,
        network=self._network,
        hooks=Hooks(constraints=[self._shadows]),
        averaged=True,
      )
    if self._network is not self.model:
      self._copy_weights(self._network, self.model)

  @staticmethod
  def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights that both have; ranges of activations have no counterpart."""
    values = named_weights(source)
    for name, variable in named_weights(target).items():
      if name in values:
        variable.assign(values[name])
