"""What a model of the user's learns: the network that is trained, and its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tf_keras as keras

from secateurs.nets.datasets.samples import input_specs, some_shapes, some_targets
from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.classifier import at_shapes, refuse_other_probabilities
from secateurs.utils.graph.slicing.endings import ending_of, opened, without_endings
from secateurs.utils.training.models.precision import with_policy
from secateurs.utils.training.tasks.choice import task_of
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.criteria import Criteria
from secateurs.utils.training.tasks.several import SeveralOutputs, by_output
from secateurs.utils.training.tasks.single import SingleTask
from secateurs.utils.training.tasks.task import Task

_OTHERS = ('float16', 'bfloat16', 'float64')

Wanted = str | Task | Mapping[str, 'str | Task'] | None
"""A task by name or as an object, or such for each output by its name; None: chosen."""


def network_and_task(
  model: keras.Model,
  train: Any,
  *,
  wanted: Wanted = None,
  criteria: Criteria | None = None,
  loss: Any = None,
  loss_weights: Mapping[str, float] | None = None,
  judge: str | None = None,
  shape: Any = None,
) -> tuple[keras.Model, Task]:
  """The network that is trained, which stops before a softmax or sigmoid, and what it learns.

  Args:
    model: a functional or Sequential model.
    train: training data, whose targets may decide.
    wanted: see `Wanted`.
    criteria: the user's loss and metrics, for a model of one output.
    loss: that the model was compiled with, if it was: for all outputs, by output, or in order.
    loss_weights: factors of the losses of several outputs.
    judge: output whose score judges.
    shape: of a sample, where the model takes any: a tuple, or one for each input.

  Raises:
    UserError: the model cannot be opened up, or its task is not clear.
  """
  network = _sized(in_float32(opened(model)), train, shape)
  if isinstance(wanted, Task):
    if criteria is not None and (criteria.loss_name or criteria.metric_names):
      raise UserError(
        f'A loss or metrics were given beside task {wanted.name}, which has its own: give them to '
        'the task, as in Regression((1,), Criteria(loss, metrics)).'
      )
    return _trained(network, wanted), wanted
  targets = some_targets(train, len(network.outputs))
  if len(network.outputs) == 1:
    if isinstance(wanted, Mapping):
      wanted = next(iter(wanted.values()), None)
      if isinstance(wanted, Task):
        return _trained(network, wanted), wanted
    task = _single(network, 0, wanted, _first(loss), targets, criteria, f'Model {model.name}')
    if isinstance(task, Classification):
      refuse_other_probabilities(network, task.ending)
    return _trained(network, task), task
  if criteria is not None and (criteria.loss_name or criteria.metric_names):
    raise UserError(
      f'Model {model.name} has {len(network.outputs)} outputs, but one loss or metric was given '
      'for all: '
      'give each output a task with task={output: Task(...)}, or one output alone with output=NAME.'
    )
  names, keys = output_names(model)
  if isinstance(wanted, str):
    wanted = dict.fromkeys(names, wanted)
  losses = _by_output(loss, names)
  parts = {} if targets is None else by_output(targets, names)
  tasks = {
    name: one
    if isinstance(one := (wanted or {}).get(name), Task)
    else _single(network, number, one, losses[name], parts.get(name), None, f'Output {name}')
    for number, name in enumerate(names)
  }
  task = SeveralOutputs(tasks, loss_weights, judge=judge, keys=keys)
  return _trained(network, task), task


def in_float32(network: keras.Model) -> keras.Model:
  """The network in float32, if it computes in another precision: files have float32, refits need it."""
  other = any(layer.compute_dtype in _OTHERS for layer in network.layers)
  return with_policy(network, 'float32') if other else network


def precision_notes(model: keras.Model) -> list[str]:
  """What the reader of a report must know of a model in another precision."""
  found = sorted({layer.compute_dtype for layer in model.layers} & set(_OTHERS))
  return [
    f'The model computed in {kind}; it was compressed and exported in float32.' for kind in found
  ]


def output_names(model: keras.Model) -> tuple[list[str], list[str] | None]:
  """Names of a model's outputs in order, and the keys where it gives a dictionary."""
  if isinstance(model.output, Mapping):
    by_tensor = {id(tensor): key for key, tensor in model.output.items()}
    keys = [by_tensor[id(tensor)] for tensor in model.outputs]
    return keys, keys
  return list(model.output_names), None


def _single(
  network: keras.Model,
  number: int,
  wanted: str | None,
  loss: Any,
  targets: Any,
  criteria: Criteria | None,
  title: str,
) -> Task:
  shape = tuple(network.outputs[number].shape[1:])
  if not shape or None in shape:
    raise UserError(
      f'{title} gives {(None, *shape)}, but an output of known shape with an axis of classes or '
      'numbers '
      'was expected: give `shape` where the model takes any size, and keep the last axis.'
    )
  return task_of(
    shape,
    ending_of(network, number),
    wanted=wanted,
    loss=loss,
    targets=targets,
    criteria=criteria,
    output=title,
  )


def _trained(network: keras.Model, task: Task) -> keras.Model:
  """The network as it is trained; one that is flat already is not opened up again."""
  if type(task).trained in (SingleTask.trained, SeveralOutputs.trained):
    return without_endings(network, task.endings)
  if isinstance(task, Classification):
    return without_endings(network, [task.ending])
  return task.trained(network)


def _first(loss: Any) -> Any:
  if isinstance(loss, Mapping):
    return next(iter(loss.values()), None)
  return (loss[0] if loss else None) if isinstance(loss, (list, tuple)) else loss


def _by_output(loss: Any, names: Sequence[str]) -> dict[str, Any]:
  if isinstance(loss, Mapping):
    return {name: loss.get(name) for name in names}
  if isinstance(loss, (list, tuple)) and len(loss) == len(names):
    return dict(zip(names, loss))
  return dict.fromkeys(names, loss)


def _sized(network: keras.Model, train: Any, shape: Any) -> keras.Model:
  """The network on samples of one shape, without a fixed number of samples."""
  specs = input_specs(network)
  shapes = [spec.shape for spec in specs]
  if shape is not None:
    several = len(specs) > 1
    given = [shape[spec.name] for spec in specs] if isinstance(shape, Mapping) else shape
    wanted = [tuple(one) for one in given] if several else [tuple(given)]
  else:
    found = some_shapes(train, specs) or shapes
    wanted = [
      tuple(b if a is None else a for a, b in zip(mine, theirs))
      if len(mine) == len(theirs)
      else mine
      for mine, theirs in zip(shapes, found, strict=True)
    ]
  for spec, one in zip(specs, wanted, strict=True):
    if None in one:
      raise UserError(
        f'Model {network.name} takes inputs of any size, {spec.shape}, and the data does not say '
        'which: give `shape`, such as shape=(224, 224, 3).'
      )
  fixed = any(tensor.shape[0] is not None for tensor in network.inputs)
  return at_shapes(network, wanted) if wanted != shapes or fixed else network
