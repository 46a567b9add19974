"""What the recipes for ILSVRC-12 take on 1, 8 and 64 GPUs, computed on paper from published step times.

Usage: python scripts/scale_on_paper.py [--network]

Nothing is trained: parameters, MACs and feature maps are counted on the networks, epochs are read from
nets/recipes. With --network only the table of the networks is printed. docs/scale.md has the sources.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

from secateurs.learners.run.preflight.budget import sample_bytes  # noqa: E402
from secateurs.nets import mobilenet, resnet, vgg  # noqa: E402
from secateurs.utils.graph import count  # noqa: E402
from secateurs.utils.graph.counts.memory import map_bytes  # noqa: E402
from secateurs.utils.graph.flat.walk import flatten_model  # noqa: E402

IMAGES, IMAGE_BYTES = 1_281_167, 108_000  # Training images; 138 GB of JPEG files.
# Images per second of ResNet-50 on one A100 in TF32 and on eight; of more, eight's efficiency.
RESNET50_SPEED, EFFICIENCY = 909, 7000 / (8 * 909)
GPUS, BATCH = (1, 8, 64), 32  # A batch of 256 on eight, as in Goyal et al. 2017.
SHAPE, NB_CLASSES = (224, 224, 3), 1000
NETWORKS = {
  **{
    f'resnet{size}': resnet.imagenet_network(resnet.ImagenetResNetConfig(resnet_size=size))
    for size in (18, 34, 50, 101)
  },
  'vgg16': vgg.imagenet_network(vgg.VggConfig()),
  **{
    f'mobilenet_v{version}': mobilenet.imagenet_network(
      mobilenet.MobileNetConfig(mobilenet_version=version)
    )
    for version in (1, 2)
  },
}


def main() -> None:
  """Prints both tables in Markdown."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--network', action='store_true', help='the table of the networks alone')
  args = parser.parse_args()
  costs = {name: cost_of(net) for name, net in NETWORKS.items()}
  print(
    '| network | parameters | MACs | MB of feature maps a training image | GB a GPU, batch 32 |'
  )
  print('|---|---|---|---|---|')
  for name, (params, macs, each) in costs.items():
    gpu = (BATCH * each + 6 * 4 * params) / (1 << 30)
    print(
      f'| {name} | {params / 1e6:.1f} M | {macs / 1e9:.2f} G | {each / (1 << 20):.0f} | {gpu:.1f} |'
    )
  if args.network:
    return
  print(
    '\n| recipe | network | epochs | hours on 1, 8, 64 GPUs | MB exchanged a step | MB/s read |'
  )
  print('|---|---|---|---|---|---|')
  for path in sorted((Path(__file__).parents[1] / 'nets' / 'recipes').glob('*.flags')):
    text = path.read_text(encoding='utf-8')
    name, epochs = network_of(text), re.search(r'--nb_epochs_ft=([\d.]+)', text)
    if name is None or epochs is None or 'smoke' in path.stem:
      continue
    params, macs, _ = costs[name]
    speeds = [
      RESNET50_SPEED * costs['resnet50'][1] / macs * n * (EFFICIENCY if n > 1 else 1) for n in GPUS
    ]
    hours = [float(epochs[1]) * IMAGES / speed / 3600 for speed in speeds]
    print(
      f'| {path.stem} | {name} | {float(epochs[1]):g} | {", ".join(f"{h:.1f}" for h in hours)} '
      f'| {4 * params / 1e6:.0f} | {", ".join(f"{s * IMAGE_BYTES / 1e6:,.0f}" for s in speeds)} |'
    )


def cost_of(net: object) -> tuple[int, int, int]:
  """Parameters, MACs, and bytes of feature maps of one training image."""
  model = net.build(SHAPE, NB_CLASSES)
  counts = count(model)
  return counts.params, counts.macs, sample_bytes(map_bytes(flatten_model(model)))


def network_of(text: str) -> str | None:
  """Which of the networks a recipe is for; None for those on other data."""
  if '_at_ilsvrc12_run.py' not in text:
    return None
  if 'vgg_at' in text:
    return 'vgg16'
  size = re.search(r'--resnet_size=(\d+)', text)
  version = re.search(r'--mobilenet_version=(\d)', text)
  return f'resnet{size[1]}' if size else f'mobilenet_v{version[1] if version else 1}'


if __name__ == '__main__':
  main()
