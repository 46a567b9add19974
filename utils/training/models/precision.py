"""The same network at another numeric precision."""

from __future__ import annotations

import copy

import tf_keras as keras


def with_policy(model: keras.Model, policy: str) -> keras.Model:
  """Rebuilds a functional or Sequential model under a dtype policy; the weights are copied.

  With `mixed_bfloat16`, layers compute in bfloat16 from float32 variables; those that give the
  model's outputs stay in float32, because losses need the digits.

  Args:
    model: stays untouched.
    policy: `float32`, `mixed_bfloat16` or `mixed_float16`.

  Returns:
    A model with the same names, shapes and float32 variables.
  """
  config = copy.deepcopy(model.get_config())
  outputs = set() if policy == 'float32' else set(model.output_names)
  _set_policy(config, policy, outputs)
  twin = type(model).from_config(config)
  twin.set_weights(model.get_weights())
  return twin


def _set_policy(config: dict, policy: str, keep_float32: set[str]) -> None:
  for layer in config['layers']:
    inner = layer['config']
    if 'layers' in inner:
      _set_policy(inner, policy, keep_float32)
    elif layer['class_name'] == 'InputLayer':
      if inner['dtype'] == 'float64':
        inner['dtype'] = 'float32'
    else:
      inner['dtype'] = 'float32' if inner['name'] in keep_float32 else policy
