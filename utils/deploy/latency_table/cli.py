"""Makes a table of latencies of a model's layers, on this machine or on another device."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from secateurs.utils import processor
from secateurs.utils.command_line import Parser, exit_code
from secateurs.utils.errors import UserError
from secateurs.utils.files import require_writable
from secateurs.utils.quiet import quiet_tensorflow


def main(
  argv: Sequence[str] | None = None, prog: str = 'python -m secateurs.utils.deploy.latency_table'
) -> int:
  """Runs the command line; returns the exit code.

  Args:
    argv: default: that of the process.
    prog: how help and mistakes name the command.
  """
  interrupted = 'Interrupted: run the same command again to resume.'
  return exit_code(lambda: _run(_options(argv, prog)), interrupted)


def _options(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
  parser = Parser(
    prog=prog,
    description='Times each layer of a model at several numbers of channels. The table is what '
    '--<prefix>latency_table of the channel learners reads. A file that exists is added to: layers '
    'that it has are not timed again, so that an interrupted command resumes.',
  )
  parser.add_argument('model', help='a .keras or .h5 file (tf_keras, functional or Sequential)')
  parser.add_argument('--out', type=Path, default=Path('latency_table.json'), help='the table')
  parser.add_argument('--threads', type=int, default=1, help='threads of the interpreter')
  parser.add_argument(
    '--clock',
    choices=('wall', 'cpu'),
    default='wall',
    help='cpu: the CPU time of the thread, for machines that do other things, too; with one thread',
  )
  parser.add_argument('--int8', action='store_true', help='time full-integer files')
  source = parser.add_mutually_exclusive_group()
  source.add_argument(
    '--vela',
    metavar='DEVICE',
    help='time nothing; take what Vela estimates for an NPU, such as ethos-u55-128',
  )
  source.add_argument(
    '--emit',
    type=Path,
    metavar='DIR',
    help='time nothing; write the files and a script that runs them on a phone or a Raspberry Pi',
  )
  source.add_argument(
    '--collect', type=Path, metavar='DIR', help='read what that script has left there'
  )
  parser.add_argument('--device', help='name of the device, with --collect')
  options = parser.parse_args(argv)
  if options.threads < 1:
    parser.error('--threads must be at least 1')
  if options.clock == 'cpu' and options.threads > 1:
    parser.error('--clock cpu sees one thread only: leave out --threads')
  if options.device is not None and options.collect is None:
    parser.error('--device names the device of --collect, which was not given')
  elsewhere = options.vela or options.emit or options.collect
  if options.clock != 'wall' and elsewhere:
    parser.error('--clock is of this machine: leave it out with --vela, --emit and --collect')
  if options.vela and options.threads > 1:
    parser.error('--threads has no effect on an NPU: leave it out with --vela')
  return options


def _run(options: argparse.Namespace) -> None:
  quiet_tensorflow()
  from secateurs.utils.deploy.devices import vela
  from secateurs.utils.deploy.latency_table import elsewhere
  from secateurs.utils.deploy.latency_table.measure import make_table
  from secateurs.utils.deploy.latency_table.npu import make_npu_table
  from secateurs.utils.deploy.latency_table.table import LatencyTable, read_table
  from secateurs.utils.deploy.runtime.interpreter import runtimes
  from secateurs.utils.graph import ChannelGraph, load_model

  kind = 'int8' if options.int8 or options.vela else 'float'
  here = options.collect is None
  device = processor.describe() if here else options.device or 'another device'
  runtime = list(runtimes())[-1] if here else 'benchmark_model of TensorFlow Lite'
  if options.vela:
    vela.require_device(options.vela, '--vela')
    device, runtime = options.vela, vela.version()
  table = LatencyTable(device, runtime, options.threads, kind, clock=options.clock)
  if options.emit is not None:
    graph = ChannelGraph(load_model(options.model))
    elsewhere.emit(graph, options.emit, kind, options.threads, print)
    return
  if options.out.is_dir():
    raise UserError(
      f'--out {options.out} is a folder, but a file was expected: give its name, such as '
      f'{options.out / "latency_table.json"}.'
    )
  if options.out.exists():
    try:
      known = read_table(options.out, 'out')
    except UserError as error:
      raise UserError(
        f'--out {options.out} exists, but is no table of latencies that can be added to: give another '
        '--out, or remove it.'
      ) from error
    same = [
      (one.device, one.runtime, one.threads, one.kind, f'{one.clock} clock')
      for one in (known, table)
    ]
    if same[0] != same[1]:
      raise UserError(
        f'{options.out} is a table of {", ".join(map(str, same[0]))}, but now it is '
        f'{", ".join(map(str, same[1]))}: give another --out.'
      )
    table = known
  graph = ChannelGraph(load_model(options.model))
  require_writable(options.out.parent)  # Before minutes of timing.
  if options.vela:
    make_npu_table(table, graph, options.out, print)
  elif options.collect is None:
    make_table(table, graph, options.out, print)
  else:
    elsewhere.collect(table, graph, options.collect)
    table.write(options.out)
  print(f'wrote {options.out}')
