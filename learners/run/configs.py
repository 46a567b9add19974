"""Hyper-parameters that all learners share."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import ClassVar

from secateurs.utils.config import Config, option
from secateurs.utils.deploy.files.format_names import parsed_formats
from secateurs.utils.deploy.int8.steps import parsed_steps
from secateurs.utils.errors import UserError

FULL_PREC = 'full-prec'
"""The learner that trains a network as it is."""


@dataclasses.dataclass(frozen=True)
class RunConfig(Config):
  """Where a run keeps its files and how it goes about its work."""

  settled_by: ClassVar[Mapping[str, str]] = {'wants_int8': 'export_int8'}

  run_dir: str | None = option(
    None,
    'Folder in which the default paths below lie; default: ./runs/<net>_at_<data set>.',
    affects_result=False,
  )
  log_dir: str = option(
    './logs/<learner>', 'Folder of report, metrics and TensorBoard events.', affects_result=False
  )
  enbl_warm_start: bool = option(
    False, 'Start from trained weights and never train a baseline.', affects_result=False
  )
  warm_start_path: str | None = option(
    None, 'Weights to start from: .npz, .keras, .h5, SavedModel folder or checkpoint prefix.'
  )
  restart: str = option(
    'none',
    'What to do if the folder holds a compression with other flags: none (refuse), or compression '
    '(start it again from the same baseline, and keep the old one beside it).',
    choices=('none', 'compression'),
    affects_result=False,
  )
  plan: str | None = option(
    None, 'plan.json of another run: make the same cut on this network without choosing again.'
  )
  layers: str | None = option(
    None,
    'YAML file of what each layer may lose: skip, only, floors, ratios (docs/layers.md).',
    affects_result=False,
  )
  seed: int = option(0, 'Seed of weights, order of samples and augmentation.', low=0)
  enbl_bf16: bool = option(
    False,
    'Train with bfloat16 arithmetic and float32 weights, where the processor is faster with it.',
  )
  force_bf16: bool = option(
    False,
    'With enbl_bf16, on any processor, however slow; --enbl_bf16 force sets both.',
    used_with={'enbl_bf16': True},
  )
  summ_step: int = option(
    100, 'Steps between two summaries of metrics.', low=1, affects_result=False
  )
  save_step: int = option(500, 'Steps between two checkpoints.', low=1, affects_result=False)
  export_int8: bool = option(
    False, 'Also export a full-integer .tflite and measure it.', affects_result=False
  )
  export_formats: str = option(
    'keras,tflite',
    'Formats of the exported files, with commas between them: keras and tflite, which are always '
    'written, tflite_fp16, tflite_dynamic, tflite_int8 (as --export_int8), pb, saved_model, onnx.',
    affects_result=False,
  )
  int8_repair: str = option(
    'none',
    'How the full-integer file is repaired: auto, or some of equalise, bias, percentile, mse, '
    'rounding, int16, float with commas between them (docs/int8.md); --export_int8 auto sets both.',
    used_with={'wants_int8': True},
    affects_result=False,
  )
  max_drop: float = option(
    0.005,
    "Drop of the score from the float file's at which the full-integer file needs no further repair: "
    'for scores in percent 0.01 is one point, for others it is a fraction of the value.',
    low=0.0,
    used_with={'wants_int8': True},
    affects_result=False,
  )
  nb_smpls_calib: int = option(
    200, 'Training images that calibrate the full-integer export.', low=1, affects_result=False
  )
  bench_frames: int = option(
    200,
    'Frames timed per file and number of threads; fewer if the median is known within 3 % before, more '
    '(for up to 20 ms a frame) if it is not.',
    low=1,
    affects_result=False,
  )
  bench_threads: str = option(
    '1,2',
    'Numbers of threads to time with, separated by commas; those above --bench_cores are left out.',
    affects_result=False,
  )
  bench_cores: int | None = option(
    None,
    'Cores on which latency and throughput are measured, the first ones of the process; default: all.',
    low=1,
    affects_result=False,
  )
  bench_streams: int | None = option(
    None,
    'Also measure throughput: frames per second of this many interpreters with one thread each, which '
    'work at the same time.',
    low=1,
    affects_result=False,
  )
  bench_device: str | None = option(
    None,
    'NPU that the full-integer files are estimated on, such as ethos-u55-128, by Vela (docs/int8.md).',
    affects_result=False,
  )
  batch_size_eval: int | None = option(
    None, "Batch size of evaluations; default: the recipe's.", low=1, affects_result=False
  )
  max_memory_mb: int | None = option(
    None,
    'Memory that one process may take, in megabytes: feature maps that do not fit go to disk, and '
    'batches that do not fit are run in pieces; default: half of what the machine has free.',
    low=1,
    affects_result=False,
  )
  enbl_multi_gpu: bool = option(
    False,
    'Fail instead of running as a single process; use it to catch a missing -n=K.',
    affects_result=False,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if not re.fullmatch(r'[1-9]\d*(,[1-9]\d*)*', self.bench_threads):
      raise UserError(
        '--bench_threads takes whole numbers separated by commas, such as 1,2, but '
        f'{self.bench_threads!r} was given.'
      )
    if not self.threads:
      raise UserError(
        f'--bench_threads {self.bench_threads} asks for more threads than --bench_cores '
        f'{self.bench_cores} has cores: give fewer threads or more cores.'
      )
    parsed_steps(self.int8_repair)
    parsed_formats(self.export_formats)

  @property
  def formats(self) -> list[str]:
    """The formats of the exported files."""
    return parsed_formats(self.export_formats)

  @property
  def wants_int8(self) -> bool:
    """Whether there is to be a full-integer file, quantised after training."""
    return self.export_int8 or 'tflite_int8' in self.formats

  @property
  def threads(self) -> list[int]:
    """The numbers of threads to time with, none above the cores."""
    return [number for number in self._asked_threads if number <= (self.bench_cores or number)]

  @property
  def threads_left_out(self) -> list[int]:
    """The numbers of threads that were asked for and would share cores."""
    return [number for number in self._asked_threads if number not in self.threads]

  @property
  def _asked_threads(self) -> list[int]:
    return [int(number) for number in self.bench_threads.split(',')]


@dataclasses.dataclass(frozen=True)
class FullPrecConfig(Config):
  """Where the full-precision network is kept: every other learner's baseline."""

  save_path: str = option(
    './models/model.ckpt', 'Checkpoints of the full-precision baseline.', affects_result=False
  )
  save_path_eval: str = option(
    './models_eval/model', 'Exported full-precision model, without ending.', affects_result=False
  )


OF_FINE_TUNING = (
  'nb_epochs_ft',
  'lrn_rate_ft',
  'optimizer_ft',
  'lrn_rate_muon',
  'augment_ft',
  'average_ft',
  'ema_decay',
  'swa_ratio',
  'bn_reestimate',
  'keep_zeros',
)
"""Fields of `TrainConfig` that say how compression trains: a baseline does not depend on them."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
  """How networks are trained; None stands for the value of the network's recipe."""

  batch_size: int | None = option(
    None, "Samples of a step, of each process; default: the recipe's.", low=1
  )
  nb_epochs_rat: float = option(1.0, "Fraction of the recipe's epochs to train for.", low=0.0)
  lrn_rate_init: float | None = option(
    None,
    "Initial learning rate at the recipe's batch size; scales with batch_size and processes.",
    low=0.0,
  )
  nb_epochs_ft: float | None = option(
    None, "Epochs of compression's training; default: nb_epochs_rat of the recipe's.", low=0.0
  )
  lrn_rate_ft: float | None = option(
    None,
    "Peak learning rate of compression's training; default: that of a compiled model, else a tenth of "
    'lrn_rate_init.',
    low=0.0,
  )
  optimizer_ft: str = option(
    'sgd',
    'Optimizer of the training after compression: sgd (with momentum) or muon (orthogonalised updates '
    "of convolutions' kernels; learns more in few epochs); a compiled model's own, if not given.",
    choices=('sgd', 'muon'),
  )
  lrn_rate_muon: float = option(
    0.01,
    "Peak rate of --optimizer_ft muon: update norm as a fraction of the kernel's norm; all other "
    'weights use lrn_rate_ft.',
    low=0.0,
    used_with={'optimizer_ft': 'muon'},
  )
  augment_ft: str = option(
    'all',
    'Augmentation used while compressing: all (same as baseline training), mirror, or none; less '
    'augmentation helps short fine-tuning.',
    choices=('all', 'mirror', 'none'),
  )
  average_ft: str = option(
    'none',
    "What compression's last training ends in: none (the weights of its last step), ema (their "
    'exponential moving average), or swa (their mean over the last steps).',
    choices=('none', 'ema', 'swa'),
  )
  ema_decay: float = option(
    0.999,
    'What --average_ft ema keeps of the average at each step; in the first steps less, '
    '(1 + t) / (10 + t) after t of them.',
    low=1e-3,
    high=1.0,
    used_with={'average_ft': 'ema'},
  )
  swa_ratio: float = option(
    0.25,
    "Fraction of the training's steps, its last ones, that --average_ft swa averages.",
    low=1e-3,
    high=1.0,
    used_with={'average_ft': 'swa'},
  )
  momentum: float | None = option(
    None, "Momentum of SGD and muon; default: the recipe's, mostly 0.9.", low=0.0, high=1.0
  )
  loss_w_dcy: float | None = option(
    None, "Weight decay over everything but BN; default: the recipe's.", low=0.0
  )
  warm_up_ratio: float = option(
    0.05,
    "Fraction of a training's steps over which the learning rate rises, if the batch of all processes "
    "together is larger than the recipe's.",
    low=0.0,
    high=1.0,
  )
  bn_reestimate: bool = option(
    True,
    'After compression, re-estimate batch-norm statistics on training images, and take them where the '
    'network scores better with them on held-out images.',
  )
  keep_zeros: bool = option(
    True,
    'Keep zero what is zero in the kernels of the network that is given; otherwise training and refits '
    'may fill it.',
  )
  grad_compression: str = option(
    'none',
    'Data type of gradients between processes: none (as they are), fp16, or bf16.',
    choices=('none', 'fp16', 'bf16'),
  )


@dataclasses.dataclass(frozen=True)
class DistillConfig(Config):
  """Distillation from a teacher during compression (Hinton et al. 2015)."""

  enbl_dst: bool = option(False, 'Train against a teacher as well as the labels.')
  loss_w_dst: float = option(
    4.0, "Weight of the teacher's loss beside the labels'.", low=0.0, used_with={'enbl_dst': True}
  )
  tempr_dst: float = option(
    4.0, 'Temperature that softens both outputs.', low=1e-3, used_with={'enbl_dst': True}
  )
  save_path_dst: str = option(
    './models_dst/model.ckpt',
    "The teacher's weights; without them the baseline is the teacher.",
    used_with={'enbl_dst': True},
  )


@dataclasses.dataclass(frozen=True)
class QuantConfig(Config):
  """Quantisation-aware fine-tuning at the end (Jacob et al. 2018)."""

  enbl_qat: bool = option(
    False, 'Train a twin that computes in simulated 8 bits, which gives the full-integer .tflite.'
  )
  nb_epochs_qat: float = option(
    1.0, 'Epochs of this training in 8 bits.', low=0.0, used_with={'enbl_qat': True}
  )
  lrn_rate_qat: float | None = option(
    None,
    'Peak learning rate of this training in 8 bits; default: a hundredth of lrn_rate_init.',
    low=0.0,
    used_with={'enbl_qat': True},
  )
