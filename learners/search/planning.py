"""Plans of searches: what all accepted tries took together, and the same cut on other weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import tf_keras as keras

from secateurs.learners.run.results import plans
from secateurs.learners.run.results.plan_cuts import set_zeros
from secateurs.learners.run.results.plans import ChannelCut, CutPlan, CutStep, ZeroCut
from secateurs.learners.search.building import Repair, as_planned
from secateurs.learners.search.reach import Reach
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import JsState, Taken, Try
from secateurs.utils.training.models.weights import kernels_by_name


def path_of(state: JsState) -> list[Try]:
  """The accepted tries that lead to the chosen network, in order."""
  number, found = state.chosen or 0, []
  while number:
    found.append(state.tries[number - 1])
    number = found[-1].base
  return found[::-1]


def cut_plan(empty: CutPlan, state: JsState, model: keras.Model, reach: Reach) -> CutPlan:
  """What a search took, as a plan.

  Args:
    empty: a plan of the original without cuts.
    state: of the search.
    model: the network that it ended with.
    reach: which channels it might take.
  """
  path = path_of(state)
  steps = plans.merged(
    [
      CutStep(
        [one.part for one in tried.taken if one.kind == 'block'],
        [ChannelCut(**cut) for cut in tried.channels],
      )
      for tried in path
    ]
  )
  first, *further = steps or [CutStep()]
  zeros = {}
  if any(one.kind == 'zeros' for tried in path for one in tried.taken):
    for name, kernel in kernels_by_name(model).items():
      values = kernel.numpy()
      if not values.all():
        zeros[name] = ZeroCut(values.size, int(np.count_nonzero(values)))
  return dataclasses.replace(
    empty,
    channels=first.channels,
    blocks=first.blocks,
    steps=further,
    zeros=zeros,
    bits=path[-1].bits if path else {},
    file=state.file,
    norms=reach.norms,
    heads=reach.heads,
  )


def applied(plan: CutPlan, scene: Scene, repair: Repair) -> keras.Model:
  """The network of a scene with the cut of a plan, layers refit after each step.

  Raises:
    UserError: the plan cuts channels that the flags leave whole.
  """
  model = scene.model
  for step in plan.all_steps():
    model = as_planned(model, step, scene.reach, repair, scene.settings)
  set_zeros(model, plan)
  return model


def taken_of(plan: CutPlan) -> list[Taken]:
  """What a plan takes, part by part, without losses."""
  found = []
  for step in plan.all_steps():
    found += [Taken(name, 'block', 1, 0, 0.0) for name in step.blocks]
    found += [Taken(cut.layer, 'channels', cut.size, len(cut.kept), 0.0) for cut in step.channels]
  return found
