"""Packages whose names load their module at first use."""

import importlib
from collections.abc import Callable, Mapping, Sequence


def lazy_names(
  package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
  """What a package sets as its `__getattr__`, `__dir__` and `__all__`.

  Args:
    package: the package's `__name__`.
    modules: public names by the module that defines them, relative to the package as in '.name'.
  """
  home = {name: module for module, names in modules.items() for name in names}
  public = sorted(home)

  def get(name: str) -> object:
    if name not in home:
      raise AttributeError(f'module {package!r} has no attribute {name!r}')
    return getattr(importlib.import_module(home[name], package), name)

  return get, lambda: public, public
