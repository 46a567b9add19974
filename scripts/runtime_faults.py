"""Finds what the installed TensorFlow Lite runtimes compute wrongly, one layer at a time.

Usage: python scripts/runtime_faults.py [--out docs/runtime_faults.md] [--kept FILE] [--seconds N]

Each setting of each layer is a network of one layer, converted as float and as full-integer file, and
run by every installed runtime. A wrong one is converted again with its rewriting. Results are kept in a
file, one setting a line: the same command resumes, and with --seconds it stops after so long without
writing the page.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import tf_keras as keras  # noqa: E402

from secateurs.utils.deploy.faults.known import known_faults  # noqa: E402
from secateurs.utils.deploy.faults.rewritings import rewritten  # noqa: E402
from secateurs.utils.deploy.files.convert import convert, trace  # noqa: E402
from secateurs.utils.deploy.files.exportable import check_exportable  # noqa: E402
from secateurs.utils.deploy.files.parity import FLOAT_TOLERANCE  # noqa: E402
from secateurs.utils.deploy.runtime.interpreter import dequantize, quantize, runtimes  # noqa: E402
from secateurs.utils.processor import describe  # noqa: E402
from secateurs.utils.quiet import quiet_native  # noqa: E402

ROOT = Path(__file__).parents[1]
SIZES = ((17, 18),)
KERNELS = [(k, k) for k in range(1, 6)] + [(1, 3), (3, 1), (2, 3)]
STRIDES = (1, 2, 3, 4, 6)
DILATIONS = (2, 3)
_INT8_STEPS = 8.0

PAGE = """# What TensorFlow Lite runtimes compute wrongly

Written by `python scripts/runtime_faults.py`. Each setting of each layer is a network of one layer.
It is converted as float and as full-integer file, and run by each installed runtime with its
default kernels on one thread. A float file is wrong if an output differs from Keras by more than
{tolerance:.0e} of the range, a full-integer file if it differs by more than {steps:.0f} steps.

Settings: kernels {kernels}; strides {strides}, those greater than the kernel included; dilations 1,
2, 3; `same` and `valid` padding; images of {sizes}. Resizing: to half, double and odd sizes,
nearest and bilinear.

{platform}.

{tables}

What XNNPACK in TensorFlow Lite places wrongly is a convolution with `same` padding whose last
window ends before the image does, mostly because the stride is greater than the kernel along an
axis. Each .tflite file that is exported here has explicit padding before a `valid` layer in such a
place. That is equal, and right on all runtimes. For faults that are not known, each float file is
compared with Keras: the first layer that differs is found by halving the network, rewritten if an
equal form of it is right, and named in the report. If none is, that file alone is left out.
"""


def settings() -> Iterator[tuple[tuple[int, int], str, dict[str, Any]]]:
  """Size of the image, layer class, arguments."""
  for size in SIZES:
    for kernel, padding in itertools.product(KERNELS, ('same', 'valid')):
      steps = [{'strides': s} for s in STRIDES] + [{'dilation_rate': d} for d in DILATIONS]
      for step in steps:
        for kind in ('Conv2D', 'DepthwiseConv2D', 'SeparableConv2D', 'Conv2DTranspose'):
          if kind == 'Conv2DTranspose' and 'dilation_rate' in step:
            continue  # TensorFlow's CPU kernel has no gradient-free form of it.
          filters = {} if kind == 'DepthwiseConv2D' else {'filters': 4}
          yield size, kind, {**filters, 'kernel_size': kernel, **step, 'padding': padding}
        if 'strides' in step:
          for kind in ('MaxPooling2D', 'AveragePooling2D'):
            yield size, kind, {'pool_size': kernel, **step, 'padding': padding}
    for method in ('nearest', 'bilinear'):
      for factor in (2, 3, (2, 1)):
        yield size, 'UpSampling2D', {'size': factor, 'interpolation': method}
      for height, width in ((8, 9), (23, 11), (2 * size[0], 2 * size[1])):
        yield size, 'Resizing', {'height': height, 'width': width, 'interpolation': method}


def run(runtime: type, content: bytes, images: np.ndarray) -> tuple[np.ndarray, float | None]:
  """Outputs of a file for images, and the value of an integer step."""
  with quiet_native():
    interpreter = runtime(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
  given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
  outputs = []
  for image in images:
    value = image[np.newaxis]
    if given['dtype'] == np.int8:
      value = quantize(value, *given['quantization'], np.int8)
    interpreter.set_tensor(given['index'], value)
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(made['index']))
  values = np.concatenate(outputs)
  if values.dtype == np.int8:
    return dequantize(values, *made['quantization']), made['quantization'][0]
  return values, None


def verdict(runtime: type, content: bytes, images: np.ndarray, expected: np.ndarray) -> str:
  """'right', 'wrong' or 'fails'."""
  try:
    found, step = run(runtime, content, images)
  except (RuntimeError, ValueError):
    return 'fails'
  if found.shape != expected.shape:
    return 'wrong'
  largest = float(np.abs(found - expected).max())
  limit = _INT8_STEPS * step if step else FLOAT_TOLERANCE * float(np.ptp(expected))
  return 'right' if largest <= limit else 'wrong'


def sweep(kept: Path, seconds: float) -> list[dict[str, Any]] | None:
  """Verdicts of all settings, one for each file and runtime; None where the time is over before."""
  known = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
  began, todo = time.monotonic(), list(settings())[len(known) :]
  with kept.open('a', encoding='utf-8') as file:
    for number, setting in enumerate(todo, 1):
      if time.monotonic() - began > seconds:
        return None
      known.append(judged(*setting))
      file.write(json.dumps(known[-1]) + '\n')
      file.flush()
      if number % 100 == 0:
        print(f'{len(known)} of {len(known) + len(todo) - number} settings', flush=True)
        keras.backend.clear_session()
  return [verdict for setting in known for verdict in setting]


def judged(size: tuple[int, int], kind: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
  """The verdicts over one setting; none where Keras refuses it."""
  images = np.random.default_rng(0).standard_normal((4, *size, 3), np.float32)
  inputs = keras.Input((*size, 3))
  try:
    model = keras.Model(inputs, getattr(keras.layers, kind)(**arguments)(inputs))
    expected = model(images).numpy()
  except (ValueError, RuntimeError):
    return []  # The kernel is larger than the image.
  specs = check_exportable(model)
  plain = trace(model, specs, 1)
  with rewritten(known_faults(model)):
    safe = trace(model, specs, 1)
  found = []
  for form, calibration in (('float', None), ('int8', images)):
    content = attempt(lambda c=calibration: convert(plain, model.name, c))
    for name, runtime in runtimes().items():
      result = 'fails' if content is None else verdict(runtime, content, images, expected)
      again = result
      if result != 'right':
        new = attempt(lambda c=calibration: convert(safe, model.name, c))
        again = 'fails' if new is None else verdict(runtime, new, images, expected)
      found.append(
        {
          'runtime': name,
          'layer': kind,
          'form': form,
          'image': 'x'.join(map(str, size)),
          'setting': words({k: v for k, v in arguments.items() if k not in ('filters', 'strides')}),
          'strides': arguments.get('strides', 1),
          'result': result,
          'rewritten': again,
        }
      )
  return found


def attempt(make: Callable[[], bytes]) -> bytes | None:
  """What it gives, or None where the converter refuses."""
  try:
    return make()
  except (RuntimeError, ValueError):
    return None


def table(verdicts: list[dict[str, Any]]) -> str:
  """The tables of the page, one for each runtime."""
  lines: list[str] = []
  for name in runtimes():
    mine = [one for one in verdicts if one['runtime'] == name]
    lines += [
      f'## {name}',
      '',
      '| layer | file | settings | right | wrong | fails | right after rewriting |',
      '|---|---|---|---|---|---|---|',
    ]
    for kind, form in dict.fromkeys((one['layer'], one['form']) for one in mine):
      rows = [one for one in mine if (one['layer'], one['form']) == (kind, form)]
      counts = [sum(one['result'] == key for one in rows) for key in ('right', 'wrong', 'fails')]
      bad = [one for one in rows if one['result'] != 'right']
      again = sum(one['rewritten'] == 'right' for one in bad) if bad else ''
      shown = ' | '.join(map(str, counts))
      lines.append(f'| {kind} | {form} | {len(rows)} | {shown} | {again} |')
    wrong = defaultdict(set)
    for one in mine:
      if one['result'] != 'right':
        wrong[one['layer'], one['image'], one['setting']].add(one['strides'])
    lines += ['', 'Wrong, or failing, are:' if wrong else 'None is wrong.', '']
    lines += ['| layer | image | settings | strides |', '|---|---|---|---|'] if wrong else []
    lines += [
      f'| {kind} | {image} | {text} | {", ".join(map(str, sorted(strides)))} |'
      for (kind, image, text), strides in sorted(wrong.items())
    ]
    lines.append('')
  return '\n'.join(lines).strip()


def words(arguments: dict[str, Any]) -> str:
  """Arguments for people."""
  return ', '.join(
    f'{key.replace("_", " ")} {"x".join(map(str, value)) if isinstance(value, tuple) else value}'
    for key, value in arguments.items()
  )


def main() -> None:
  """Sweeps, and writes the page."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kept', type=Path, default=Path('runtime_faults.jsonl'))
  parser.add_argument('--seconds', type=float, default=float('inf'))
  parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'runtime_faults.md')
  options = parser.parse_args()
  verdicts = sweep(options.kept, options.seconds)
  if verdicts is None:
    return
  page = PAGE.format(
    tolerance=FLOAT_TOLERANCE,
    steps=_INT8_STEPS,
    kernels=', '.join(f'{h}x{w}' for h, w in KERNELS),
    strides=', '.join(map(str, STRIDES)),
    sizes=', '.join(f'{h}x{w}' for h, w in SIZES),
    platform=f'Processor: {describe()}; Python {platform.python_version()}',
    tables=table(verdicts),
  )
  options.out.write_text(page, encoding='utf-8')


if __name__ == '__main__':
  main()
