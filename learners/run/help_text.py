"""The text of --help."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from secateurs.utils.config import Config


def script_usage(name: str) -> str:
  """How the entry script of an experiment is started."""
  return f'./scripts/run_local.sh nets/{name}_run.py --learner NAME'


def help_text(
  usage: str,
  learner: str,
  common: Sequence[type[Config]],
  by_learner: Mapping[str, type[Config]],
  methods: Collection[str],
  modes: Collection[str],
) -> str:
  """All flags of a command with defaults, grouped by config class.

  Args:
    usage: how it is started.
    learner: which one it runs, without --learner or by it.
    common: classes of flags that all learners have.
    by_learner: those of each learner.
    methods: names of published methods.
    modes: choices of --exec_mode.
  """
  lines = [
    f'{usage} [--exec_mode MODE] [flags]',
    f'  --learner: {", ".join(by_learner)} (here: {learner}), or a published method: '
    f'{", ".join(methods)}',
    f'  --exec_mode: {", ".join(modes)} (default: train)',
    '  --chain: YAML file of several learners, one after the other, in place of --learner',
    '  --dry_run: check everything, print the phases and an estimate of their time, and do nothing',
    '  --debug: show tracebacks',
    '  --flagfile: a file of flags, one a line',
  ]
  groups = [(c.__doc__.splitlines()[0], c) for c in common]
  groups += [(f'Learner {learner}', c) for learner, c in by_learner.items()]
  for title, config_class in groups:
    lines += ['', title]
    for field in dataclasses.fields(config_class):
      default = '' if field.default is None else f' (default: {field.default})'
      lines.append(f'  --{config_class.flag_name(field)}: {field.metadata["help"]}{default}')
  return '\n'.join(lines)
