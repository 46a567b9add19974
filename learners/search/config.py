"""Hyper-parameters of `joint-search`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from secateurs.learners.channels.configs import ChannelConfig
from secateurs.learners.search import stepping
from secateurs.learners.search.quantities import (
  BYTES,
  COUNTS,
  MILLISECONDS,
  SECONDS,
  quantity,
)
from secateurs.utils.config import Default, option
from secateurs.utils.errors import UserError

KINDS = ('channels', 'blocks', 'zeros', 'bits')
OF_PACKED = ('zeros', 'bits')
COSTS = ('bytes', 'latency', 'macs', 'ram')
_USUAL_DROP = 0.01
_TIMING = 0.01  # Latencies of one file differ by so much between measurements.
AUTO, HELD_OUT, HALF = 'auto', 'held-out', 'half'
FILES = (AUTO, 'float', 'int8', 'packed')


@dataclasses.dataclass(frozen=True)
class JsConfig(ChannelConfig):
  """Hyper-parameters of `joint-search`; `secateurs compress` takes them without the prefix."""

  prefix = 'js_'
  settled_by: ClassVar[Mapping[str, str]] = {
    'limited': '--{prefix}max_drop in place of a limit of the cost'
  }

  save_path: str = option(
    './models_js/model.ckpt', 'Checkpoints, and the networks of the search.', affects_result=False
  )
  save_path_eval: str = option(
    './models_js_eval/model', 'Exported model, without ending.', affects_result=False
  )
  max_drop: float | None = option(
    None,
    'How much the score may drop, in its unit (0.01 of accuracy is one point), with 95 % confidence; '
    'default: 0.01, where the cost has no limit.',
    low=0.0,
  )
  minimise: str = option(
    'bytes',
    'What is minimised: bytes of the file, its latency, macs, or ram (the most that feature maps take '
    'at once).',
    choices=COSTS,
    used_with={'limited': False},
  )
  max_bytes: str | None = option(
    None, 'A limit of the cost: the least loss in a file of at most so many bytes, such as 200kB.'
  )
  max_latency: str | None = option(
    None, 'The least loss in at most so much time for one sample, on this machine, such as 3ms.'
  )
  max_macs: str | None = option(
    None, 'The least loss in at most so many multiply-adds, such as 20M.'
  )
  max_ram: str | None = option(
    None, 'The least loss where feature maps take at most so much at once, such as 64kB.'
  )
  take: str = option(
    'channels,blocks,zeros,bits',
    'What may be removed, separated by commas; zeros and bits only in packed files.',
  )
  file: str = option(
    'auto',
    'Kind of file: float, int8, packed (zeros and shared weights, unpacked before it runs), or auto '
    '(whichever of float and int8 costs less).',
    choices=FILES,
  )
  time: str = option('30m', 'Time of search and training, such as 90s, 30m or 2h.')
  nb_tries: int = option(16, 'Networks that are tried at most.', low=1)
  first_step: float = option(
    0.7, 'Fraction of its cost that the first try keeps.', low=0.05, high=0.93
  )
  nb_epochs_try: float | None = option(
    None, 'Training epochs of a try; default: what js_time allows, at most one.', low=0.0
  )
  judge: str = option(
    AUTO,
    'What judges tries: held-out samples of training (--nb_smpls_val); half: every second evaluation '
    'sample, the others being the evaluation set; auto: half, where the network came trained, so '
    'that it knows the training samples, and a half has samples enough, else held-out.',
    choices=(AUTO, HELD_OUT, HALF),
  )
  nb_smpls_judge: int = option(10_000, 'Held-out samples that tries are judged on.', low=10)
  nb_smpls_scan: int = option(
    500, 'Held-out samples that divergences are measured on, of each network.', low=1
  )
  weight_bits: int = option(
    4,
    'Bits of a weight in a packed file at the start; the search may give some layers fewer.',
    low=2,
    high=8,
    used_with={'file': 'packed'},
  )

  def __post_init__(self) -> None:
    given = [name for name in COSTS if getattr(self, f'max_{name}') is not None]
    if given and not isinstance(self.minimise, Default):
      raise UserError(
        f'--js_minimise {self.minimise} has no effect beside --js_max_{given[0]}, which says what is '
        'to be small: leave one of them out.'
      )
    if self.max_drop is not None:
      given.append('drop')
    if len(given) > 1:
      raise UserError(
        f'--js_max_{given[0]} and --js_max_{given[1]} are two limits: leave one of them out.'
      )
    super().__post_init__()
    if self.file == 'packed' and self.cost != 'bytes':
      raise UserError(
        f'--js_file packed saves bytes, but {self.cost} was asked for: leave it out, or give '
        '--js_minimise bytes.'
      )
    _ = self.limit, self.seconds
    odd = [kind for kind in self.kinds if kind not in KINDS]
    if odd or not self.kinds:
      raise UserError(f'--js_take takes some of {", ".join(KINDS)}, but {self.take!r} was given.')
    unused = [kind for kind in self.kinds if kind in OF_PACKED]
    if unused and self.file != 'packed' and not isinstance(self.take, Default):
      raise UserError(
        f'--js_take {self.take} has no effect on {" and ".join(unused)} but in packed files: add '
        f'--js_file packed, or leave {" and ".join(unused)} out.'
      )

  @property
  def kinds(self) -> tuple[str, ...]:
    """What may go."""
    return tuple(kind.strip() for kind in self.take.split(',') if kind.strip())

  @property
  def data_defaults(self) -> Mapping[str, Any]:
    """A fifth of the training samples is held out for tries, unless others judge them."""
    return {} if self.judge == HALF else {'nb_smpls_val': -1}

  @property
  def cost(self) -> str:
    """What is minimised, or has a limit."""
    given = [name for name in COSTS if getattr(self, f'max_{name}') is not None]
    return given[0] if given else self.minimise

  @property
  def drop(self) -> float:
    """How much the score may drop, where that is the limit."""
    return _USUAL_DROP if self.max_drop is None else self.max_drop

  @property
  def limited(self) -> bool:
    """Whether the cost has a limit, so that the loss is to be as little as possible."""
    return any(getattr(self, f'max_{name}') is not None for name in COSTS)

  @property
  def nb_looks(self) -> int:
    """Looks at the samples that judge, for all of which the confidence is to hold."""
    if self.limited:
      return stepping.LOOKS_AT_THE_END
    return stepping.nb_looks(self.first_step, self.nb_tries)

  @property
  def allowed(self) -> float | None:
    """What a file may cost at most to meet the limit: the limit, but a little more for a latency."""
    timing = _TIMING if self.cost == 'latency' else 0.0
    return None if self.limit is None else self.limit * (1 + timing)

  @property
  def limit(self) -> float | None:
    """The limit of the cost in bytes, ms or MACs, where it has one."""
    units = {'bytes': BYTES, 'latency': MILLISECONDS, 'macs': COUNTS, 'ram': BYTES}
    name = f'max_{self.cost}'
    return quantity(f'js_{name}', getattr(self, name), units[self.cost])

  @property
  def seconds(self) -> float:
    """The time of search and training."""
    return quantity('js_time', self.time, SECONDS)
