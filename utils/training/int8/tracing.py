"""Opens the layers of a flat model into the operations that they are made of."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.faults.rewritings import rewritten
from secateurs.utils.graph.flat.rebuild import fill
from secateurs.utils.graph.flat.walk import Call, FlatModel
from secateurs.utils.training.int8.builder import Builder
from secateurs.utils.training.int8.forms import affine_parts, forms_of
from secateurs.utils.training.int8.kinds import PRELU
from secateurs.utils.training.int8.operations import NotOpenError, add_graph
from secateurs.utils.training.int8.program import LAYER, Program
from secateurs.utils.training.int8.splits import cut_splits
from secateurs.utils.training.int8.units import mark_hard_swish
from secateurs.utils.training.models.random_layers import is_random

_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


def open_model(flat: FlatModel) -> Program:
  """All steps of a model in inference mode.

  Layers that are random while they train (Dropout), and those with loops, stay whole.
  """
  builder = Builder(flat)
  for call in flat.calls:
    _add_call(builder, flat, call)
  program = builder.program
  program.outputs = [builder.of(number) for number in program.outputs]
  program.prune()
  gates = {call.name for call in flat.calls if isinstance(call.layer, _RECURRENT)}
  cut_splits(program, gates)
  mark_hard_swish(program)
  return program


def _add_call(builder: Builder, flat: FlatModel, call: Call) -> None:
  source = call.inputs[0] if call.inputs else 0
  if is_random(call.layer):
    _add_whole(builder, call, moves=True)
    return
  parts = affine_parts(call.layer, flat.shapes[source], flat.dtypes[source])
  if parts is not None:
    builder.add_affine(builder.of(source), *parts, call.outputs[0], call.name)
    return
  before = len(builder.program.steps)
  try:
    _add_opened(builder, flat, call)
  except NotOpenError:
    del builder.program.steps[before:]
    _add_whole(builder, call, moves=False)


def _is_own(layer: keras.layers.Layer) -> bool:
  """Whether a layer's class is the user's, whose Python may have loops and branches over tensors."""
  return not type(layer).__module__.startswith('tf_keras')


def _add_whole(builder: Builder, call: Call, moves: bool) -> None:
  numbers = list(dict.fromkeys(call.inputs))
  takes_mode = call.layer._call_spec.expects_training_arg

  def whole(*tensors: tf.Tensor, training: bool) -> Any:
    given = dict(zip(numbers, tensors, strict=True))
    kwargs = dict(fill(call.kwargs, given))
    if takes_mode and (not training or kwargs.get('training') is None):
      kwargs['training'] = training
    return call.layer(*fill(call.args, given), **kwargs)

  if _is_own(call.layer):
    whole = tf.function(whole)  # Which makes graphs of its loops.
  inputs, outputs = [builder.of(number) for number in numbers], list(call.outputs)
  builder.add(LAYER, inputs, outputs, call.name, attrs={'moves': moves}, whole=whole)


def _add_opened(builder: Builder, flat: FlatModel, call: Call) -> None:
  layer, numbers = call.layer, list(dict.fromkeys(call.inputs))
  specs = [tf.TensorSpec(flat.shapes[number], flat.dtypes[number]) for number in numbers]
  takes_mode = layer._call_spec.expects_training_arg

  def run(*tensors: tf.Tensor) -> list[tf.Tensor]:
    given = dict(zip(numbers, tensors, strict=True))
    kwargs = dict(fill(call.kwargs, given))
    if takes_mode:
      kwargs['training'] = False
    return tf.nest.flatten(layer(*fill(call.args, given), **kwargs))

  with rewritten(forms_of(layer)):
    graph = tf.function(run, autograph=_is_own(layer)).get_concrete_function(*specs).graph
  unit = f'{call.name}/{PRELU}' if isinstance(layer, keras.layers.PReLU) else ''
  found = add_graph(builder, graph, [builder.of(number) for number in numbers], call.name, unit)
  for number, made in zip(call.outputs, found, strict=True):
    builder.rename(number, made)
