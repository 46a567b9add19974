"""Processor seconds for the largest networks: `python tests/graph/graph_speed.py [NAME ...]`.

Random weights; the graph is built, half of the MACs are chosen by L1 norms, the model is sliced.
Prints the table of docs/graph.md.
"""

import gc
import itertools
import sys
import time

import tf_keras as keras

from secateurs.utils.graph import ChannelGraph, channel_scores, choose_channels, slice_model

LARGEST = ('EfficientNetV2L', 'NASNetLarge', 'ConvNeXtXLarge')


def seconds(name):
  """(layers, seconds for the graph, for scores and choice, for slicing)."""
  model = getattr(keras.applications, name)(weights=None)
  marks = [time.process_time()]
  graph = ChannelGraph(model)
  marks.append(time.process_time())
  keep = choose_channels(graph, channel_scores(graph), macs=0.5)
  marks.append(time.process_time())
  slice_model(graph, keep)
  marks.append(time.process_time())
  parts = [after - before for before, after in itertools.pairwise(marks)]
  return len(model.layers), *parts


def main(names):
  print('| network | layers | graph | scores and choice | slicing | all |')
  print('|---|---|---|---|---|---|')
  for name in names:
    layers, *parts = seconds(name)
    cells = ' | '.join(f'{one:.1f} s' for one in [*parts, sum(parts)])
    print(f'| {name} | {layers} | {cells} |', flush=True)
    keras.backend.clear_session()
    gc.collect()


if __name__ == '__main__':
  main(sys.argv[1:] or LARGEST)
