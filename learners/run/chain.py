"""`--chain FILE`: several learners one after the other, each on what the one before has made.

  links:
    - learner: chn-pruned
      epochs: 6
      flags: {cp_prune_option: auto, cp_preserve_ratio: 0.5}
    - learner: weight-sparse
      epochs: 6
      flags: {ws_prune_ratio: 0.5, enbl_qat: true}

A link is a learner or a published method, with its own flags and those of the command. The idea of a
file of scheduled steps is Distiller's (Zmora et al. 2019, arXiv:1910.12232).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from secateurs.learners.run.console import say
from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.measured import MeasuredLearner
from secateurs.learners.run.preflight import checks
from secateurs.utils.config import Default
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.yaml_files import read_yaml

CHAIN_FILE = 'chain.json'
_KEYS = ('learner', 'epochs', 'flags')
_OF_THE_CHAIN = ('run_dir', 'log_dir', 'learner', 'chain', 'warm_start_path')


@dataclasses.dataclass(frozen=True)
class Link:
  """One learner of a chain.

  Attributes:
    number: from 1.
    learner: or published method.
    flags: by name.
  """

  number: int
  learner: str
  flags: dict[str, Any]

  @property
  def folder(self) -> str:
    """Name of its folder in that of the chain."""
    return f'link{self.number}_{self.learner}'

  def arguments(self) -> list[str]:
    """Its part of a command line."""
    found = [f'--learner={self.learner}']
    for name, value in self.flags.items():
      if isinstance(value, bool):
        found.append(f'--{"" if value else "no"}{name}')
      else:
        found.append(f'--{name}={value}')
    return found


def read_chain(path: str) -> list[Link]:
  """Reads the file.

  Raises:
    UserError: it is missing, no YAML, or says something else than links.
  """
  found = read_yaml(Path(path).expanduser(), '--chain')
  links = found.get('links') if isinstance(found, dict) and set(found) == {'links'} else None
  if not isinstance(links, list) or not links:
    raise UserError(
      f'--chain {path} was expected to hold `links:` and a list of learners with their flags: see '
      'nets/recipes/slim_sparse_int8.yaml.'
    )
  return [_link(path, number, link) for number, link in enumerate(links, 1)]


def _link(path: str, number: int, link: Any) -> Link:
  if isinstance(link, str):
    link = {'learner': link}
  if not isinstance(link, dict) or 'learner' not in link or not set(link) <= set(_KEYS):
    raise UserError(
      f'--chain {path}: link {number} is {link!r}, but learner and, if wanted, epochs and flags were '
      'expected.'
    )
  flags = link.get('flags') or {}
  if not isinstance(flags, dict) or not all(
    isinstance(value, (bool, int, float, str)) for value in flags.values()
  ):
    raise UserError(
      f'--chain {path}: flags of link {number} are {flags!r}, but names with values were expected.'
    )
  flags = {str(name).removeprefix('--'): value for name, value in flags.items()}
  taken = [name for name in flags if name in _OF_THE_CHAIN]
  if taken:
    raise UserError(
      f'--chain {path}: link {number} sets --{taken[0]}, which the chain sets itself: leave it out.'
    )
  if 'epochs' in link:
    flags = {'nb_epochs_ft': link['epochs'], **flags}
  return Link(number, str(link['learner']), flags)


def run(
  links: Sequence[Link],
  makes: Sequence[Callable[..., MeasuredLearner]],
  helper: Helper,
  run_dir: str | None,
  mode: str,
  *,
  dry: bool,
) -> None:
  """Runs the links in order; those that are finished are only read, so that a chain resumes.

  Args:
    links: of the chain.
    makes: for each link what makes its learner, from a helper and changed fields of its RunConfig.
    helper: network and data of the first link.
    run_dir: folder of the chain; default: as of a run.
    mode: of --exec_mode.
    dry: only to show what would be done, with an estimate of each link's time.

  Raises:
    UserError: a mode that chains do not have, or as of the links.
  """
  if mode != 'train':
    raise UserError(
      f"--chain runs with --exec_mode train, but {mode} was given: name a link's run folder for that."
    )
  for make in makes:
    learner = make(helper)
    checks.require_effect(learner.settings, learner.without_effect)
    _require_own_folders(learner.files)
  folder = Path(run_dir or f'./runs/{helper.name}').expanduser()
  reports, seconds, last = [], [], None
  for link, make in zip(links, makes, strict=True):
    flags = ' '.join(f'--{name} {value}' for name, value in link.flags.items())
    say(f'\nLink {link.number} of {len(links)}: {link.learner} {flags}')
    changes = {'run_dir': str(folder / link.folder)}
    if link.number > 1:
      changes['warm_start_path'] = None  # It has the weights of the link before.
    learner = make(helper, **changes)
    if dry:
      seconds.append(learner.dry_run())
      helper = _given_by(learner, helper)
      continue
    result = learner.train()
    reports.append(result.report)
    last = learner.files.log_dir / 'report.json'
    helper = helper.continued(result.files['keras'])
  if dry:
    say(f'\n{_estimates(links, seconds)}')
  else:
    distributed.from_chief(lambda: write_summary(folder, links, reports, last))


def _require_own_folders(files: RunFiles) -> None:
  """Checks that the files of a link lie in its own folder, where no other link writes.

  Raises:
    UserError: a flag moves them elsewhere.
  """
  config, run = files.settings.config, files.settings.run
  for owner, field in ((run, 'log_dir'), (config, 'save_path'), (config, 'save_path_eval')):
    value = getattr(owner, field)
    if not isinstance(value, Default):
      raise UserError(
        f'--{owner.prefix}{field} {value} has no place in a --chain, whose links would write over each '
        'other there: leave it out, and name the folder of all links with --run_dir.'
      )


def _given_by(learner: MeasuredLearner, helper: Helper) -> Helper:
  """What the next link starts from: the file of a finished one, else the network of this one, uncut."""
  if all(learner.session.is_done(phase.name) for phase in learner.phases()):
    return helper.continued(distributed.from_chief(learner.files.exported)['keras'])
  return helper.sketched(learner.settings.run.seed)


def _estimates(links: Sequence[Link], seconds: Sequence[float]) -> str:
  """What is left takes, by link and together."""
  parts = ', '.join(
    f'{link.folder} {format_seconds(one)}' for link, one in zip(links, seconds, strict=True)
  )
  return (
    f'The whole chain: about {format_seconds(sum(seconds))} ({parts}). A link that '
    'waits for another was timed with the network that this one starts from; what is removed until '
    'then makes it faster.'
  )


def write_summary(
  run_dir: Path, links: Sequence[Link], reports: Sequence[dict[str, Any]], last: Path
) -> None:
  """Writes chain.json, which the comparison page shows as one row, and prints each link's cost.

  Args:
    run_dir: folder of the chain.
    links: those that are done.
    reports: of the same.
    last: report.json of the last one, which holds the whole chain.
  """
  rows = [
    {
      'link': link.folder,
      'learner': link.learner,
      'flags': link.flags,
      'score': report['compressed']['score'],
      'tflite_bytes': report['compressed'].get('tflite_bytes'),
      'seconds': report['seconds_total'],
    }
    for link, report in zip(links, reports, strict=True)
  ]
  total = sum(row['seconds'] or 0 for row in rows)
  content = {'report': str(last.relative_to(run_dir)), 'links': rows, 'seconds_total': total}
  with atomic_path(run_dir / CHAIN_FILE) as partial:
    partial.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
  costs = ', '.join(f'{row["link"]} {format_seconds(row["seconds"] or 0)}' for row in rows)
  say(f'The chain took {format_seconds(total)} ({costs}); its report is {last}')
