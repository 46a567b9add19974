"""Export, parity, latency and the report of a run.

Names load their module at first use: reading or writing a report needs no TensorFlow.
"""

from secateurs.utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    '.blocks': ('UNSTRUCTURED_NOTE', 'achieved', 'layer_rows', 'model_block', 'versions'),
    '.convert': ('int8_bytes', 'tflite_bytes'),
    '.export': ('Export', 'ExportedFile', 'export_model'),
    '.exportable': ('check_exportable',),
    '.float_file': ('smallest_float_file',),
    '.history': ('history_path', 'link_of', 'read_history'),
    '.interpreter': ('TFLiteModel',),
    '.latency': ('measure_latency',),
    '.metrics': ('parse_metrics', 'read_metrics'),
    '.page': ('render_html',),
    '.parity': ('Parity', 'ParityError', 'check_graph_def', 'check_keras', 'check_tflite'),
    '.report': ('read_report', 'write_report'),
    '.schema': ('SCHEMA', 'validate_report'),
    '.size': ('FileSize', 'file_size', 'gzip_bytes'),
    '.table': ('format_table',),
    '.upgrade': ('upgrade_report',),
  },
)
