"""A user's model file on a user's images, as an experiment."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from secateurs.nets import unlabelled
from secateurs.nets.compiled_loss import loss_in_file
from secateurs.nets.datasets import array_files, cifar10, ilsvrc12, image_folder, images_alone
from secateurs.nets.datasets.source import DataConfig, ImageSource
from secateurs.nets.experiments import Experiment
from secateurs.nets.given_model import read_model
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.recipe import CIFAR10_RECIPE, FOLDER_RECIPE, ILSVRC12_RECIPE
from secateurs.utils.config import option
from secateurs.utils.deploy import read_history
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.choice import TASKS

_PREPROCESS = {'imagenet': 'caffe', 'torch': 'torch', '0..1': '0..1', '-1..1': 'tf', 'none': 'none'}
_NEED_THREE_CHANNELS = ('imagenet', 'torch')
_RECIPES = {
  'image_folder': FOLDER_RECIPE,
  'images': FOLDER_RECIPE,
  'cifar10': CIFAR10_RECIPE,
  'ilsvrc12': ILSVRC12_RECIPE,
  'arrays': FOLDER_RECIPE,
}

_OF_IMAGES = tuple(name for name in _RECIPES if name != 'arrays')


@dataclasses.dataclass(frozen=True)
class SavedModelConfig(DataConfig):
  """Your model, and how your images are handed to it."""

  model: str | None = option(
    None,
    'Model file: .keras or .h5 of Keras 3 or tf_keras, or a SavedModel folder of tf_keras.',
    affects_result=False,
  )
  custom_objects: str | None = option(
    None, 'Module (dotted name or .py file) that defines layers of your own.'
  )
  model_output: str | None = option(
    None, 'The only output that is used, by name, where the model has several.'
  )
  task: str | None = option(
    None,
    'What the model learns; default: what its last activation and the loss that it was compiled '
    'with say.',
    choices=tuple(TASKS),
  )
  data_set: str = option(
    'image_folder',
    'What kind of data it is; images: a folder of images alone, without labels; arrays: train.npz and '
    'test.npz with x and y, or a .npz or .npy file of inputs alone (docs/tasks.md).',
    choices=tuple(_RECIPES),
  )
  preprocess: str = option(
    'torch',
    'How the model wants its pixels: imagenet (BGR, mean subtracted, as the ResNets and VGGs of '
    'tf_keras.applications), torch ((x / 255 - mean) / std), 0..1, -1..1 (as its MobileNets), or '
    'none (0 to 255).',
    choices=tuple(_PREPROCESS),
    used_with={'data_set': _OF_IMAGES},
  )
  image_size: int = option(
    224,
    'Height and width of images, where the model takes any size; those of cifar10 stay 32.',
    low=8,
    used_with={'data_set': _OF_IMAGES},
  )
  nb_corrupt_max: int = option(
    100,
    'Records of ilsvrc12 that may be damaged and left out before a run stops.',
    low=0,
    used_with={'data_set': 'ilsvrc12'},
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    for field in ('nb_smpls_train', 'nb_smpls_eval'):
      if self.data_set == 'arrays' and getattr(self, field) is not None:
        raise UserError(
          f'--{field} {getattr(self, field)} has no effect on --data_set arrays, which is used as it '
          'is: leave it out, or write fewer samples into the .npz files.'
        )


def _make(config: SavedModelConfig) -> ModelHelper:
  if config.model is None:
    raise UserError('No model was named: give --model FILE (.keras, .h5, or a SavedModel folder).')
  model = read_model(config.model, config.custom_objects)
  if getattr(model, 'loss', None) is None:
    model.loss = loss_in_file(config.model)  # Files are loaded without it.
  if config.data_set == 'arrays':
    data, shape = array_files.load(config.data_dir_local), None
  else:
    shape = _image_shape(model.inputs[0].shape if len(model.inputs or ()) == 1 else (), config)
    data = (_load(config, shape),)
  alone = config.data_set == 'arrays' and all(part is None or len(part) == 1 for part in data)
  if alone:
    train, test = (None if part is None else part[0] for part in data)
    data = unlabelled.with_decisions(model, train, test)
  elif config.data_set == 'images':
    data = (unlabelled.decided(model, data[0]),)
  helper = ModelHelper.from_model(
    model,
    *data,
    name=Path(config.model).stem,
    recipe=_RECIPES[config.data_set],
    shape=shape,
    output=config.model_output,
    task=config.task,
    history=read_history(Path(config.model)),
    nb_smpls_val=config.nb_smpls_val if config.data_set == 'arrays' else 0,
  )
  if alone or config.data_set == 'images':
    unlabelled.mark(helper)
  return helper


def _image_shape(shape: tuple, config: SavedModelConfig) -> tuple[int, int, int]:
  if len(shape) != 4 or shape[-1] not in (1, 3):
    raise UserError(
      f'{config.model} takes inputs of shape {tuple(shape[1:])}, but images of (height, width, 3) '
      'or (height, width, 1) were expected: give an image classifier with one input.'
    )
  if shape[-1] == 1 and config.preprocess in _NEED_THREE_CHANNELS:
    raise UserError(
      f'{config.model} takes grey images, but --preprocess {config.preprocess} is for colours: '
      'give 0..1, -1..1 or none.'
    )
  size = 32 if config.data_set == 'cifar10' else config.image_size
  return (shape[1] or size, shape[2] or size, shape[3])


def _load(config: SavedModelConfig, shape: tuple[int, int, int]) -> ImageSource:
  mode = _PREPROCESS[config.preprocess]
  shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(DataConfig)}
  if config.data_set in ('image_folder', 'images'):
    load = image_folder.load if config.data_set == 'image_folder' else images_alone.load
    return load(image_folder.ImageFolderConfig(**shared), shape, mode)
  if config.data_set == 'cifar10':
    return cifar10.load(DataConfig(**shared), mode)
  if shape[0] != shape[1] or shape[2] != 3:
    raise UserError(
      f'{config.model} takes images of {shape}, but those of ilsvrc12 are square and in colour.'
    )
  return ilsvrc12.load(
    ilsvrc12.Ilsvrc12Config(
      **shared, image_size=shape[0], preprocess=mode, nb_corrupt_max=config.nb_corrupt_max
    )
  )


SAVED_MODEL = Experiment('saved_model', (SavedModelConfig,), _make)
