"""One-shot L1 slicing of a model file: `python -m secateurs.utils.graph MODEL --ratio 0.5 ...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from secateurs.utils.command_line import Parser, exit_code
from secateurs.utils.errors import UserError
from secateurs.utils.quiet import quiet_tensorflow

_OF_GOALS = {'criterion': 'l1', 'scope': 'local', 'min-channels': 1, 'round-to': 1}
"""Flags that say how a goal is reached, with their defaults."""
_MODELS, _PICTURES = ('.keras', '.h5'), ('.png', '.svg', '.pdf')


def main(argv: Sequence[str] | None = None, prog: str = 'python -m secateurs.utils.graph') -> int:
  """Runs the command line; returns the exit code.

  Args:
    argv: default: that of the process.
    prog: how help and mistakes name the command.
  """
  return exit_code(lambda: _run(_parser(prog).parse_args(argv)))


def _parser(prog: str) -> Parser:
  parser = Parser(
    prog=prog,
    description='Shows the channel groups of a model and cuts each by the L1 norm of its filters.',
  )
  parser.add_argument(
    'model', help='a .keras or .h5 file (tf_keras or Keras 3, functional or Sequential)'
  )
  goal = parser.add_mutually_exclusive_group()
  goal.add_argument('--ratio', type=float, help='fraction of channels to drop, in [0, 1]')
  goal.add_argument(
    '--macs', type=float, help="target in MACs; below 1, a fraction of the original's"
  )
  goal.add_argument(
    '--params', type=float, help="target in parameters; below 1, a fraction of the original's"
  )
  parser.add_argument('--criterion', default='l1', help='l1 (default), l2 or bn_gamma')
  parser.add_argument('--scope', default='local', help='local (default) or global ranking')
  parser.add_argument('--min-channels', type=int, default=1, help='least width of a layer')
  parser.add_argument('--round-to', type=int, default=1, help='round widths up to a multiple')
  parser.add_argument(
    '--norms', default='keep', help='keep (default) or cut what a LayerNormalization runs over'
  )
  parser.add_argument(
    '--heads',
    default='width',
    help='width (default) narrows the heads of an attention, whole drops some',
  )
  parser.add_argument(
    '--out', help='where to write the smaller model (.keras or .h5; .keras for one of Keras 3)'
  )
  parser.add_argument('--plot', help='where to draw the groups (.png, .svg, .pdf)')
  return parser


def _run(args: argparse.Namespace) -> None:
  goals = {'ratio': args.ratio, 'macs': args.macs, 'params': args.params}
  given = {name: value for name, value in goals.items() if value is not None}
  if args.out and not given:
    raise UserError('--out needs a goal: give --ratio, --macs or --params.')
  if given and not args.out:
    raise UserError('A goal needs --out, the file to write the smaller model to.')
  for flag, usual in _OF_GOALS.items():
    if not given and getattr(args, flag.replace('-', '_')) != usual:
      raise UserError(
        f'--{flag} has an effect only with a goal: give --ratio, --macs or --params, or leave it out.'
      )
  for name, path, endings in (('out', args.out, _MODELS), ('plot', args.plot, _PICTURES)):
    if path and os.path.splitext(path)[1] not in endings:
      raise UserError(f'--{name} must end in {" or ".join(endings)}, got {path!r}.')
  quiet_tensorflow()
  from secateurs.utils.graph import (
    ChannelGraph,
    apply_plan,
    channel_scores,
    choose_channels,
    count,
    load_model,
    plan_slice,
    save_model,
  )
  from secateurs.utils.graph.show.tables import count_table
  from secateurs.utils.model_files import saved_by_keras3

  model, save = load_model(args.model), save_model
  if saved_by_keras3(args.model):
    from secateurs.utils.keras3 import save_keras3 as save
  graph = ChannelGraph(model, args.norms, args.heads)
  print(graph)
  if args.norms == 'cut':
    print('norms are cut: their statistics change with the channels, and so do the outputs')
  keep = None
  if given:
    keep = choose_channels(
      graph,
      channel_scores(graph, args.criterion),
      **given,
      scope=args.scope,
      min_channels=args.min_channels,
      round_to=args.round_to,
    )
    plan = plan_slice(graph, keep, min_channels=args.min_channels, round_to=args.round_to)
    small = apply_plan(plan)
    before, after = count(model), count(small)
    print(f'\n{count_table(before, after)}')
    print(f'MACs x{after.macs / max(before.macs, 1):.4f}, params', end=' ')
    print(f'x{after.params / max(before.params, 1):.4f} of the original')
    for one in plan.held_back:
      print(f'kept: element {one.element} of group {one.group}, {one.reason}')
    print(f'wrote {save(small, args.out)}')
  if args.plot:
    from secateurs.utils.graph.show.plotting import plot_groups

    plot_groups(graph, args.plot, keep)
    print(f'drew {args.plot}')


if __name__ == '__main__':
  sys.exit(main())
