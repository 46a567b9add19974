"""Channel groups, physical slicing, and MAC and parameter counts of tf_keras models.

Names load their module at first use: the command line is checked before TensorFlow is loaded.
"""

from secateurs.utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    '.costs': ('plan_cost',),
    '.counting': ('LayerCount', 'ModelCount', 'count'),
    '.data_scores': ('activation_scores',),
    '.groups': ('ChannelGraph', 'ChannelMap', 'Group', 'Member'),
    '.masking': ('masked',),
    '.planning': ('HeldBack', 'Plan', 'plan_slice'),
    '.saving': ('plain_model', 'save_model'),
    '.scores': ('channel_scores',),
    '.selection': ('ChannelSelection',),
    '.slicing': ('apply_plan', 'slice_model'),
    '.targets': ('choose_channels',),
    'secateurs.utils.model_files': ('load_model',),
  },
)
