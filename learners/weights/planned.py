"""Plans of zeros that are applied in place of an allocation."""

from __future__ import annotations

from collections.abc import Collection

from secateurs.learners.run.results import plans
from secateurs.learners.run.results.plans import CutPlan
from secateurs.learners.run.settings import Settings
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.patterns import Pattern


def plan_to_apply(settings: Settings, kernels: Collection[str], pattern: Pattern) -> CutPlan | None:
  """The plan that --plan names; None without the flag.

  Args:
    settings: name the file and the network.
    kernels: names of the kernels that the run prunes.
    pattern: of their zeros.

  Raises:
    UserError: the plan belongs to another network, to other kernels or to another pattern.
  """
  path = settings.run.plan
  if path is None:
    return None
  plan = plans.read_plan(path)
  plans.require_same_network(plan, settings.helper.build_model(settings.run.seed), path)
  plans.require_channels_alone(plan, f'--plan {path}', settings.learner)
  if set(plan.zeros) != set(kernels) or plan.pattern != pattern.name:
    raise UserError(
      f'--plan {path} prunes {", ".join(plan.zeros) or "no kernel"} in the pattern {plan.pattern}, but '
      f'this run prunes {", ".join(kernels)} in the pattern {pattern.name}: give the flags of the run '
      'that wrote it (--ws_dense_share, --ws_policy, --ws_pattern, --ws_block_size, --ws_m_by_n).'
    )
  return plan
