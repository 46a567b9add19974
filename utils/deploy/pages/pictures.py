"""Draws what a task shows of single samples: scatter plots, ROC curves, masks and boxes."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from secateurs.utils.deploy.pages.plots import PALETTE, TEXT, draw, style_axes

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

  from secateurs.utils.training.tasks.pictures import Picture

_BEFORE, _AFTER = PALETTE[1], PALETTE[0]
_SIZE = (8, 4)  # Inches: a page stretches drawings to its width, and their letters with them.
_LABELS = (('before', 'original', _BEFORE), ('after', 'compressed', _AFTER))


def draw_picture(picture: 'Picture') -> dict[str, str]:
  """The drawing of a picture, inside a page."""
  plot = _KINDS[picture.kind](picture.title, picture.data)
  return {'title': picture.title, 'caption': picture.caption, 'plot': plot}


def _scatter(title: str, data: Mapping[str, Any]) -> str:
  def paint(figure: 'Figure', axes: 'Axes') -> None:
    low, high = data['targets'].min(), data['targets'].max()
    axes.plot([low, high], [low, high], color=TEXT, linewidth=0.8)
    for name, label, colour in _LABELS:
      axes.plot(
        data['targets'], data[name], '.', markersize=4, alpha=0.6, color=colour, label=label
      )
    style_axes(axes, 'target')
    axes.set_ylabel('prediction', color=TEXT)
    figure.legend(loc='outside right center', frameon=False, labelcolor=TEXT)

  return draw(title, _SIZE, paint)


def _roc(title: str, data: Mapping[str, Any]) -> str:
  def paint(figure: 'Figure', axes: 'Axes') -> None:
    for name, label, colour in _LABELS:
      axes.plot(*data[name].T, color=colour, linewidth=1.4, label=label)
    axes.plot([0, 1], [0, 1], ':', color=TEXT, linewidth=0.8)
    style_axes(axes, 'false positives')
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(lambda value, _: f'{100 * value:.0f} %')
    axes.set_ylabel('true positives', color=TEXT)
    figure.legend(loc='outside right center', frameon=False, labelcolor=TEXT)

  return draw(title, _SIZE, paint)


def _masks(title: str, data: Mapping[str, Any]) -> str:
  rows = [_grey_or_colours(data['images'])]
  rows += [_coloured(data[name], data['nb_classes']) for name in ('targets', 'before', 'after')]
  gap = 2
  height, width = rows[0].shape[1:3]
  sheet = np.full(
    (len(rows) * (height + gap) - gap, len(rows[0]) * (width + gap) - gap, 3), 255, np.uint8
  )
  for number, row in enumerate(rows):
    for place, panel in enumerate(row):
      top, left = number * (height + gap), place * (width + gap)
      sheet[top : top + height, left : left + width] = panel
  scale = max(1, round(120 / width))
  content = _png(np.kron(sheet, np.ones((scale, scale, 1), np.uint8)))
  alt = html.escape(f'{title}: images, targets, original, compressed')
  return f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{content}">'


def _boxes(title: str, data: Mapping[str, Any]) -> str:
  from matplotlib.figure import Figure
  from matplotlib.patches import Rectangle

  images = _grey_or_colours(data['images'])
  names = (('targets', 'objects'), *((name, label) for name, label, _ in _LABELS))
  height, width = images.shape[1:3]
  figure = Figure(figsize=(1.7 * len(images), 1.7 * len(names) + 0.3), dpi=80)
  panels = figure.subplots(len(names), len(images), squeeze=False)
  for row, (name, label) in zip(panels, names, strict=True):
    row[0].set_ylabel(label, color=TEXT)
    for axes, image, boxes in zip(row, images, data[name], strict=True):
      axes.imshow(image)
      axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
      for top, left, bottom, right, text in boxes:
        corner = left * width - 0.5, top * height - 0.5
        sides = (right - left) * width, (bottom - top) * height
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=_BEFORE, linewidth=1.2))
        look = {'color': 'white', 'backgroundcolor': '#000000a0', 'clip_on': True}
        axes.text(*corner, text, size=5, parse_math=False, **look)  # Names may have a $.
  figure.tight_layout(pad=0.3)
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png')
  content = base64.b64encode(buffer.getvalue()).decode()
  alt = html.escape(f'{title}: objects, detections of the original and of the compressed model')
  return f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{content}">'


def _png(pixels: np.ndarray) -> str:
  import matplotlib.image

  buffer = io.BytesIO()
  matplotlib.image.imsave(buffer, pixels, format='png')
  return base64.b64encode(buffer.getvalue()).decode()


def _grey_or_colours(images: np.ndarray) -> np.ndarray:
  """Images as bytes with three channels, each stretched to its range."""
  images = np.asarray(images, np.float64)
  images = images[..., :3] if images.shape[-1] >= 3 else images[..., :1].repeat(3, axis=-1)
  axes = (1, 2, 3)
  low, high = images.min(axes, keepdims=True), images.max(axes, keepdims=True)
  return (255 * (images - low) / np.maximum(high - low, 1e-12)).astype(np.uint8)


def _coloured(classes: np.ndarray, nb_classes: int) -> np.ndarray:
  """Classes of pixels as colours; those of no class are white."""
  table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE], np.uint8)
  known = (classes >= 0) & (classes < nb_classes)
  return np.where(known[..., None], table[np.where(known, classes, 0) % len(table)], 255)


_KINDS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {
  'scatter': _scatter,
  'roc': _roc,
  'masks': _masks,
  'boxes': _boxes,
}
