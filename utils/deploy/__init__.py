"""Export, parity, latency and the report of a run.

Names load their module at first use: reading or writing a report needs no TensorFlow.
"""

import importlib

_MODULES = {
  'blocks': ('UNSTRUCTURED_NOTE', 'achieved', 'layer_rows', 'model_block', 'versions'),
  'export': ('Export', 'ExportedFile', 'check_exportable', 'export_model', 'tflite_bytes'),
  'history': ('history_path', 'link_of', 'read_history'),
  'interpreter': ('TFLiteModel',),
  'latency': ('measure_latency',),
  'metrics': ('parse_metrics', 'read_metrics'),
  'parity': ('Parity', 'ParityError', 'check_graph_def', 'check_keras', 'check_tflite'),
  'report': ('read_report', 'render_html', 'write_report'),
  'schema': ('SCHEMA', 'validate_report'),
  'size': ('FileSize', 'file_size', 'gzip_bytes'),
  'table': ('format_table',),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
  if name not in _HOME:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(f'{__name__}.{_HOME[name]}'), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return __all__
