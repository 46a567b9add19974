"""Prints what full-integer files cost: score or divergence, bytes, milliseconds, arena, NPU cycles.

Usage: python scripts/int8_table.py RUN_DIR_OR_REPORT ...

Runs of `--learner full-prec` make one table, with a row for each way to 8 bits:

  for way in "--export_int8" "--export_int8 auto --max_drop 0.003" "--enbl_qat --nb_epochs_qat 0.2"; do
    ./scripts/run_local.sh nets/saved_model_run.py --model net.keras --data_set cifar10 \\
      --learner full-prec --nb_epochs_rat 0 --bench_device ethos-u55-128 \\
      --run_dir "runs/net_$((i += 1))" $way
  done

Runs of other learners make a table for each network, with the float and the full-integer file of each.
"""

from __future__ import annotations

import sys


def main(argv: list[str]) -> int:
  """Prints the tables; returns the exit code."""
  from secateurs.utils.deploy.compare.integers import integer_tables
  from secateurs.utils.deploy.compare.reading import find_reports
  from secateurs.utils.errors import UserError

  if not argv:
    print(__doc__, file=sys.stderr)
    return 2
  try:
    tables = integer_tables(find_reports(argv))
    if not tables:
      raise UserError(f'No run of {", ".join(argv)} has a full-integer file: give --export_int8.')
  except UserError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 1
  print('\n\n'.join(tables))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
