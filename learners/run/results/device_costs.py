"""What a run's .tflite files take on devices: memory of activations, arena, NPU cycles."""

from __future__ import annotations

from typing import Any

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.console import say
from secateurs.utils.deploy.devices import micro, vela
from secateurs.utils.deploy.devices.memory_plan import peak_memory
from secateurs.utils.deploy.files.export import Export
from secateurs.utils.errors import UserError

_NAMED = 5


def require_device(run: RunConfig) -> None:
  """Checks --bench_device, if it is given.

  Raises:
    UserError: Vela is not installed, or does not know the device.
  """
  if run.bench_device is not None:
    vela.require_device(run.bench_device)


def add_costs(block: dict[str, Any], export: Export, run: RunConfig) -> dict[str, Any]:
  """The block of a report with memory and, with --bench_device, cycles; in one process.

  Args:
    block: of a report, with its `int8` if there is such a file.
    export: the files.
    run: names the device.
  """
  if export.tflite is not None:
    peak = peak_memory(export.tflite.path)
    block['ram_bytes'] = peak.bytes
    block['ram_operator'] = f'{peak.kind} {peak.operator}'
  if export.tflite_int8 is None:
    return block
  path, int8 = export.tflite_int8.path, block['int8']
  int8['ram_bytes'] = peak_memory(path).bytes
  if micro.is_installed():
    found = micro.arena(path)
    int8['arena_bytes'] = found.bytes
    if found.reason is not None:
      say(f'tflite-micro does not run {path.name}: {found.reason}.')
      notes = block.setdefault('file_notes', [])
      notes.append(f'tflite-micro does not run {path.name}: {found.reason}.')
  if run.bench_device is not None:
    int8['npu'] = _npu(block, path, run.bench_device)
  return block


def _npu(block: dict[str, Any], path: Any, device: str) -> dict[str, Any] | None:
  try:
    cost = vela.npu_cost(path, device)
  except UserError as error:
    say(f'Warning: {error}')
    block.setdefault('file_notes', []).append(str(error))
    return None
  say(f'{path.name} on {device}, by {vela.version()}: {cost}')
  if cost.cpu_operators:
    block.setdefault('file_notes', []).append(cpu_note(cost))
  return cost.block()


def cpu_note(cost: vela.NpuCost) -> str:
  """A sentence on the operators that an NPU does not run."""
  named = ', '.join(cost.on_cpu[:_NAMED]) + (', ...' if len(cost.on_cpu) > _NAMED else '')
  return (
    f'{cost.cpu_operators} operators run on the CPU beside {cost.device}'
    f'{f" ({named})" if named else ""}: replace these layers, or keep them in 8 bits.'
  )
