"""Secateurs compresses Keras models.

This folder is the package `secateurs`. The sub-packages are links to the folders at the top of the
repository, so that Python, editors and builds see one ordinary package.
"""

__version__ = '0.2.0'
