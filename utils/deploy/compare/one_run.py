"""What a comparison takes from the reports of single runs, and their means."""

from collections.abc import Mapping, Sequence

from secateurs.utils.deploy.reports.chains import images_run
from secateurs.utils.deploy.reports.scores import noise_of_difference, value_of

# Phases that decide nothing; those of other names do, unless they train.
_OTHER_PHASES = {'baseline', 'slice', 'finetune', 'bn_reestimate', 'measure', 'other'}


def before(report: Mapping) -> float | None:
  """The score between cutting and training, of a run that was no chain."""
  return None if report.get('links') else value_of((report.get('pruned') or {}).get('score'))


def change_noise(before: Mapping, after: Mapping) -> float | None:
  """Standard error of the change from one block's score to another's; None if unknown."""
  scores = before.get('score'), after.get('score')
  return None if None in map(value_of, scores) else noise_of_difference(*scores)


def choosing(report: Mapping) -> float | None:
  """Seconds of phases that decide, without trainings inside them: those are counted in both."""
  phases = report.get('phases') or ()
  mine = [phase for phase in phases if phase['name'] not in _OTHER_PHASES]
  deciding = [phase['seconds'] for phase in mine if not phase.get('iters')]
  # Changes of the structure inside of a training.
  deciding += [one['seconds'] for one in (report.get('extra') or {}).get('changes') or ()]
  if not deciding or report.get('links'):
    return None
  trained = sum(phase['seconds'] for phase in mine if phase.get('iters'))
  seconds = sum(phase['seconds'] for phase in phases)
  twice = seconds - (report.get('seconds_total') or seconds)
  return sum(deciding) - min(max(twice, 0.0), trained)


def images(reports: Sequence[Mapping]) -> tuple[float, float] | None:
  """Mean numbers of images trained and scored; None if one is unknown."""
  found = [images_run(report) for report in reports]
  if None in found:
    return None
  trained, scored = (sum(values) / len(found) for values in zip(*found, strict=True))
  return trained, scored


def statistics(report: Mapping) -> float | None:
  """How much re-estimated batch-norm statistics changed the score; None if that was not tried."""
  found = (report.get('extra') or {}).get('batch_norm')
  return found['after'] - found['before'] if found else None


def mean(values: Sequence[float | None]) -> float | None:
  """The mean; None if a value is unknown, or there is none."""
  known = [value for value in values if value is not None]
  return sum(known) / len(known) if known and len(known) == len(values) else None
