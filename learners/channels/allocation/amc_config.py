"""Flags of the agent that allocates widths (AMC), which several learners have."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.allocation.amc import Schedule
from secateurs.learners.channels.allocation.ddpg import Constants
from secateurs.utils.config import Config, option

AMC = 'amc'
_AMC = {'prune_option': AMC}
_REMEMBERED = 100  # Transitions, for each layer.


@dataclasses.dataclass(frozen=True)
class AmcConfig(Config):
  """Constants of the agent; defaults are those of the official code."""

  amc_nb_episodes: int = option(
    800, 'Episodes of the agent of amc, each of which judges one candidate.', low=1, used_with=_AMC
  )
  amc_nb_random: int = option(
    100, 'Of these, the first, in which actions are drawn.', low=1, used_with=_AMC
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

  @property
  def amc_schedule(self) -> Schedule:
    """How episodes explore."""
    return Schedule(self.amc_nb_episodes, self.amc_nb_random, self.amc_noise, self.amc_noise_decay)

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
