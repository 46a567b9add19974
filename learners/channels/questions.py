"""The five questions that every structured method answers, each with its registry.

  criterion   what is a channel worth?                      `criteria.CRITERIA`
  allocation  how many stay in each layer?                  `allocations.ALLOCATIONS`
  schedule    when do they go?                              SCHEDULES
  pressure    what makes them worthless before they go?     PRESSURES
  repair      how do the others make up for it?             REPAIRS

A learner fixes the schedule and the pressure and takes the other three as settings.
"""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.allocation.registry import ALLOCATIONS
from secateurs.learners.channels.criteria.registry import CRITERIA
from secateurs.utils.registry import Registry


@dataclasses.dataclass(frozen=True)
class Answer:
  """One answer to a question: its name, what it means, and where it comes from."""

  name: str
  summary: str
  source: str


def _registry(question: str, *answers: tuple[str, str, str]) -> Registry[Answer]:
  registry: Registry[Answer] = Registry(question)
  for answer in answers:
    registry.add(answer[0], Answer(*answer))
  return registry


SCHEDULES = _registry(
  'schedule',
  ('one-shot', 'all layers are cut at once', 'Li et al. 2017'),
  ('layer-by-layer', 'each layer is cut and repaired before the next one', 'He et al. 2017'),
  ('end-to-end', 'all layers are cut and trained, in rounds', 'Molchanov et al. 2017'),
  (
    'block-by-block',
    'each block is trained, then its layers are cut one channel after the other',
    'Zhuang et al. 2018',
  ),
  ('gradual', 'channels go, and some regrow, again and again while training', 'Hou et al. 2022'),
)
PRESSURES = _registry(
  'pressure',
  ('none', 'nothing', '-'),
  (
    'discrimination',
    'auxiliary losses make the channels of each block tell classes apart',
    'Zhuang et al. 2018',
  ),
  ('sparsity', 'a penalty on norms or scales pulls all channels to zero', 'Liu et al. 2017'),
  ('growing', 'a penalty that grows pulls the channels that go to zero', 'Wang et al. 2021'),
  ('gates', 'gates that grow harder multiply the channels', 'Luo & Wu 2018'),
  ('regrowing', 'pruned channels regrow by chance, and compete again', 'Hou et al. 2022'),
)
REPAIRS = _registry(
  'repair',
  ('none', 'nothing', '-'),
  ('least-squares', "layers are refit to the original network's outputs", 'He et al. 2017'),
  ('scalar', 'one factor for each kept channel is fit by least squares', 'Luo et al. 2017'),
  ('batch-norm', 'statistics of batch normalisation are re-estimated', 'Li et al. 2020 (EagleEye)'),
  ('layer-training', 'each layer is trained by gradients between two cuts', 'Zhuang et al. 2018'),
  ('fine-tuning', 'the slim network is trained', '-'),
)
ADAPTIVE = Answer(
  'adaptive', 'a layer stops where another channel changes its loss little', 'Zhuang et al. 2018'
)
DIVERGENCE = Answer(
  'divergence', "how far the network's outputs move without the part", 'docs/compress.md'
)
DEPTH = Answer(
  'depth', 'residual blocks go, those of the least divergence for what they save', 'MDP, CVPR 2025'
)
QUESTIONS = {
  'criterion': {**CRITERIA, DIVERGENCE.name: DIVERGENCE},
  'allocation': {**ALLOCATIONS, ADAPTIVE.name: ADAPTIVE, DEPTH.name: DEPTH},
  'schedule': SCHEDULES,
  'pressure': PRESSURES,
  'repair': REPAIRS,
}
