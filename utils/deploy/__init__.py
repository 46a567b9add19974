"""Export, parity, latency and the report of a run.

Names load their module at first use: reading or writing a report needs no TensorFlow.
"""

from secateurs.utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    '.reports.blocks': ('UNSTRUCTURED_NOTE', 'achieved', 'layer_rows', 'model_block', 'versions'),
    '.files.convert': ('int8_bytes', 'tflite_bytes'),
    '.files.export': ('Export', 'ExportedFile', 'export_model'),
    '.files.exportable': ('check_exportable',),
    '.reports.float_file': ('smallest_float_file',),
    '.pages.history': ('history_path', 'link_of', 'read_history'),
    '.runtime.interpreter': ('TFLiteModel',),
    '.runtime.latency': ('measure_latency',),
    '.reports.metrics': ('parse_metrics', 'read_metrics'),
    '.pages.page': ('render_html',),
    '.files.parity': ('Parity', 'ParityError', 'check_graph_def', 'check_keras', 'check_tflite'),
    '.pages.report': ('read_report', 'write_report'),
    '.reports.schema': ('SCHEMA', 'validate_report'),
    '.files.size': ('FileSize', 'file_size', 'gzip_bytes'),
    '.reports.table': ('format_table',),
    '.reports.upgrade': ('upgrade_report',),
  },
)
