"""Several outputs: a task for each, with a weighted sum of their losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.endings import opened, with_endings, without_endings
from secateurs.utils.training.tasks.pictures import Picture
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.task import Task

LOSS = 'loss'


class SeveralOutputs(Task):
  """A task for each output of a network; outputs and targets are tuples in the network's order.

  The loss is sum_i w_i L_i, as are distillation and divergence. One output's score judges; those of
  the others are figures.

  Attributes:
    names: of the outputs.
    tasks: of the outputs.
    factors: w_i.
    judge: name of the output whose score judges, or `loss` for the sum of losses.
  """

  name = 'several outputs'

  def __init__(
    self,
    tasks: Mapping[str, Task],
    factors: Mapping[str, float] | None = None,
    *,
    judge: str | None = None,
    keys: Sequence[str] | None = None,
  ) -> None:
    """Sets up the task.

    Args:
      tasks: by the outputs' names, in the network's order.
      factors: of the losses; default: 1.
      judge: default: the first output.
      keys: where exported models give a dictionary, its keys in the network's order.

    Raises:
      UserError: a factor or the judge is of no output.
    """
    self.names, self.tasks = tuple(tasks), tuple(tasks.values())
    for name in (*(factors or {}), *([judge] if judge not in (None, LOSS) else ())):
      if name not in tasks:
        raise UserError(
          f'{name!r} is no output of the model: its outputs are {", ".join(tasks)}, name one of '
          'these.'
        )
    self.factors = tuple((factors or {}).get(name, 1.0) for name in tasks)
    self.judge, self._keys = judge or self.names[0], keys
    self.nb_outputs = len(self.tasks)
    self.collects = any(task.collects for task in self.tasks)
    self.metric_names = self._joined('metric_names')
    self.user_metrics = self._joined('user_metrics')
    self.percent_metrics = self._joined('percent_metrics')
    self.total_types = {
      f'{name}/{key}': kind
      for name, task in zip(self.names, self.tasks, strict=True)
      for key, kind in task.total_types.items()
    } | {'samples': tf.int64}

  def _joined(self, attribute: str) -> tuple[str, ...]:
    return tuple(
      f'{name}_{one}'
      for name, task in zip(self.names, self.tasks, strict=True)
      for one in getattr(task, attribute)
    )

  def _parts(self, *values: Any) -> list[tuple]:
    """(name, task, parts of the values) for each output."""
    columns = []
    for value in values:
      if isinstance(value, Mapping):
        value = [value[name] for name in self.names]
      single = not isinstance(value, (tuple, list))
      columns.append([value] * len(self.names) if single else value)
    return list(zip(self.names, self.tasks, *columns, strict=True))

  def _sum(self, parts: Sequence[Any]) -> Any:
    return sum(factor * part for factor, part in zip(self.factors, parts, strict=True))

  # Targets.

  def canonical(self, targets: Any) -> tuple:
    """Those of each task; given as a dictionary by output, or in order."""
    parts = by_output(targets, self.names)
    return tuple(task.canonical(part) for _, task, part in self._parts(list(parts.values())))

  def require_targets(self, targets: Any, where: str) -> None:
    """As each task does."""
    for name, task, part in self._parts(targets):
      task.require_targets(part, f'{where} ({name})')

  # Training and judging.

  def loss(self, targets: Any, outputs: Any, weights: Any = None) -> tf.Tensor:
    """sum_i w_i L_i."""
    parts = self._parts(tuple(targets), tuple(outputs), weights)
    return self._sum([task.loss(*part) for _, task, *part in parts])

  def metrics(self, targets: Any, outputs: Any, weights: Any = None) -> dict[str, tf.Tensor]:
    """Those of each task, with the output's name before theirs."""
    return {
      f'{name}_{key}': value
      for name, task, *part in self._parts(tuple(targets), tuple(outputs), weights)
      for key, value in task.metrics(*part).items()
    }

  def distillation(self, taught: Any, outputs: Any, temperature: float) -> tf.Tensor:
    """sum_i w_i D_i."""
    parts = self._parts(tuple(taught), tuple(outputs))
    return self._sum([task.distillation(*part, temperature) for _, task, *part in parts])

  def require_teacher(self, teacher: keras.Model, student: keras.Model) -> None:
    """Both must give the same outputs."""
    shapes = [[tuple(t.shape) for t in model.outputs] for model in (teacher, student)]
    if shapes[0] != shapes[1]:
      raise UserError(
        f'The teacher of --enbl_dst gives outputs of shapes {shapes[0]}, but the network gives '
        f'{shapes[1]}: give a teacher of the same outputs with --save_path_dst.'
      )

  def totals(self, targets: Any, outputs: Any, weights: Any = None) -> dict[str, tf.Tensor]:
    """Those of each task, with the output's name before theirs."""
    found = {
      f'{name}/{key}': value
      for name, task, *part in self._parts(tuple(targets), tuple(outputs), weights)
      for key, value in task.totals(*part).items()
    }
    return {**found, 'samples': found[f'{self.names[0]}/samples']}

  def records(self, targets: Any, outputs: Any) -> dict[str, tf.Tensor]:
    """Those of each task, likewise."""
    return {
      f'{name}/{key}': value
      for name, task, *part in self._parts(tuple(targets), tuple(outputs))
      for key, value in task.records(*part).items()
    }

  def evaluation(
    self, totals: Mapping[str, float | np.ndarray], records: Mapping[str, np.ndarray]
  ) -> Evaluation:
    """The judge's score; scores and figures of all outputs beside it."""
    found = {
      name: task.evaluation(_of(totals, name), _of(records, name))
      for name, task in zip(self.names, self.tasks, strict=True)
    }
    loss = self._sum([one.loss for one in found.values()])
    scores = {
      (name, one.name): _named(one, name)
      for name, of_output in found.items()
      for one in (of_output.score, *of_output.figures)
    }
    if self.judge == LOSS:
      score = Score(LOSS, loss, False, 'number')
    else:
      score = scores.pop((self.judge, found[self.judge].score.name))
    metrics = {
      f'{name}_{key}': value for name, one in found.items() for key, value in one.metrics.items()
    }
    return Evaluation(score, loss, int(totals['samples']), tuple(scores.values()), metrics)

  def divergence(self, original: Any, changed: Any) -> np.ndarray:
    """sum_i w_i d_i, float [n]."""
    parts = self._parts(tuple(original), tuple(changed))
    return self._sum([task.divergence(*part) for _, task, *part in parts])

  def agreement(self, reference: Any, outputs: Any) -> float | None:
    """The least of the outputs that decide something."""
    parts = self._parts(tuple(reference), tuple(outputs))
    known = [task.agreement(*part) for _, task, *part in parts]
    return min((one for one in known if one is not None), default=None)

  @property
  def draws(self) -> bool:
    """Whether any output's task does."""
    return any(task.draws for task in self.tasks)

  @property
  def nb_drawn(self) -> int:
    """As many as the task that shows most."""
    return max((task.nb_drawn for task in self.tasks if task.draws), default=0)

  def pictures(self, inputs: Any, targets: Any, before: Any, after: Any) -> list[Picture]:
    """Those of each task, with the output's name in the title."""
    return [
      dataclasses.replace(one, title=f'{one.title}: {name}')
      for name, task, *part in self._parts(tuple(targets), tuple(before), tuple(after))
      for one in task.pictures(inputs, *part)
    ]

  # Deployment.

  @property
  def endings(self) -> list[str | None]:
    """The activations in which the outputs of exported files end."""
    return [getattr(task, 'ending', None) for task in self.tasks]

  def deployable(self, model: keras.Model) -> keras.Model:
    """With each output's activation, in a dictionary where the model gave one."""
    found = with_endings(model, self.endings)
    if self._keys is None:
      return found
    return keras.Model(found.inputs, dict(zip(self._keys, found.outputs)), name=model.name)

  def trained(self, model: keras.Model) -> keras.Model:
    """Without these activations, with outputs in order."""
    if self._keys is not None and isinstance(model.output, Mapping):
      model = keras.Model(model.inputs, [model.output[key] for key in self._keys], name=model.name)
    return without_endings(opened(model), self.endings)

  def trained_outputs(self, outputs: Any) -> tuple:
    """As each task does."""
    return tuple(task.trained_outputs(part) for _, task, part in self._parts(tuple(outputs)))

  # Auxiliary heads.

  def make_head(self, shape: tuple[int | None, ...], name: str, seed: int) -> keras.Model:
    """A head of each task on one map."""
    inputs = keras.Input(shape[1:])
    made = [task.make_head(shape, f'{name}_{one}', seed) for one, task in self._parts()]
    return keras.Model(inputs, [head(inputs) for head in made], name=name)

  def start_head(self, head: keras.Model, maps: Any, targets: Any) -> None:
    """As each task does."""
    for one, task, part in self._parts(tuple(targets)):
      task.start_head(head.get_layer(f'{head.name}_{one}'), maps, part)

  # Checks.

  def identity(self) -> dict[str, str]:
    """Tasks and factors of the outputs."""
    parts = {
      f'{key} of {name}': value
      for name, task in self._parts()
      for key, value in task.identity().items()
    }
    shown = ', '.join(f'{name} {factor:g}' for name, factor in zip(self.names, self.factors))
    return {'task': self.name, 'factors': shown, 'judge': self.judge, **parts}

  def check(self) -> None:
    """As each task does."""
    for task in self.tasks:
      task.check()


def by_output(targets: Any, names: Sequence[str]) -> dict[str, Any]:
  """The targets of every output, by its name and in the order of `names`.

  Args:
    targets: a dictionary by output, or one for each, in order.
    names: of the outputs.

  Raises:
    UserError: some are missing, or they are not for each output.
  """
  if isinstance(targets, Mapping):
    missing = [name for name in names if name not in targets]
    if missing:
      raise UserError(
        f'The targets are for the outputs {", ".join(map(str, targets))}, but those of '
        f'{", ".join(missing)} were expected, too: name outputs and targets alike.'
      )
    return {name: targets[name] for name in names}
  if not isinstance(targets, (tuple, list)) or len(targets) != len(names):
    raise UserError(
      f'The model has the outputs {", ".join(names)}, but the targets are not for each of these: '
      'give a dictionary by output, or name the only output to be used with output=NAME (on the '
      'command line --model_output).'
    )
  return dict(zip(names, targets))


def _of(values: Mapping[str, Any], name: str) -> dict[str, Any]:
  start = f'{name}/'
  return {key.removeprefix(start): one for key, one in values.items() if key.startswith(start)}


def _named(score: Score, output: str) -> Score:
  label = f'{output} {score.label or score.name.replace("_", " ")}'
  return Score(
    f'{output}_{score.name}',
    score.value,
    score.higher_is_better,
    score.unit,
    score.noise,
    label,
  )
