"""Flags of the agent that allocates widths (AMC), which several learners have."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.allocation.amc import Schedule
from secateurs.learners.channels.allocation.ddpg import Constants
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError

AMC = 'amc'
_AMC = {'prune_option': AMC}
_REMEMBERED = 100  # Transitions, for each layer.
_MOST_RANDOM, _EIGHTH = 100, 8  # Of 800 episodes, as published.


@dataclasses.dataclass(frozen=True)
class AmcConfig(Config):
  """Constants of the agent; defaults are those of the official code."""

  amc_nb_episodes: int = option(
    800, 'Episodes of the agent of amc, each of which judges one candidate.', low=1, used_with=_AMC
  )
  amc_nb_random: int | None = option(
    None,
    'Number of first episodes, whose actions are drawn at random; default: an eighth of all, at most '
    '100.',
    low=0,
    used_with=_AMC,
  )
  amc_least: float = option(
    0.2,
    'Fraction of its channels that each layer keeps at least.',
    low=0.0,
    high=1.0,
    used_with=_AMC,
  )
  amc_noise: float = option(
    0.5,
    'Standard deviation of the noise on actions after the random ones.',
    low=0.0,
    used_with=_AMC,
  )
  amc_noise_decay: float = option(
    0.95, 'Factor of the noise from episode to episode.', low=0.0, high=1.0, used_with=_AMC
  )
  amc_hidden: int = option(
    300, 'Units of each hidden layer of actor and critic.', low=1, used_with=_AMC
  )
  amc_rate_actor: float = option(
    1e-4, "Adam's learning rate of the actor.", low=0.0, used_with=_AMC
  )
  amc_rate_critic: float = option(
    1e-3, "Adam's learning rate of the critic.", low=0.0, used_with=_AMC
  )
  amc_tau: float = option(
    0.01,
    'How far the slow copies of actor and critic follow in each update.',
    low=0.0,
    high=1.0,
    used_with=_AMC,
  )
  amc_batch: int = option(64, 'Transitions of an update.', low=1, used_with=_AMC)

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.amc_nb_random is not None and self.amc_nb_random >= self.amc_nb_episodes:
      raise UserError(
        f'--{self.prefix}amc_nb_random {self.amc_nb_random} leaves the agent none of '
        f'--{self.prefix}amc_nb_episodes {self.amc_nb_episodes}: give fewer than all of them.'
      )

  @property
  def amc_schedule(self) -> Schedule:
    """How episodes explore."""
    nb_random = self.amc_nb_random
    if nb_random is None:
      nb_random = min(_MOST_RANDOM, self.amc_nb_episodes // _EIGHTH)
    return Schedule(self.amc_nb_episodes, nb_random, self.amc_noise, self.amc_noise_decay)

  def amc_constants(self, nb_units: int) -> Constants:
    """Those of the agent, which remembers a number of transitions for each unit."""
    return Constants(
      self.amc_hidden,
      self.amc_rate_actor,
      self.amc_rate_critic,
      self.amc_tau,
      self.amc_batch,
      _REMEMBERED * nb_units,
    )
