"""Channel groups, physical slicing, and MAC and parameter counts of tf_keras models.

Names load their module at first use: the command line is checked before TensorFlow is loaded.
"""

from secateurs.utils.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    '.choice.costs': ('plan_cost',),
    '.counts.counting': ('LayerCount', 'ModelCount', 'count'),
    '.choice.data_scores': ('activation_scores',),
    '.groups.channel_graph': ('ChannelGraph',),
    '.groups.members': ('ChannelMap', 'Group', 'Member'),
    '.slicing.masking': ('masked',),
    '.rules.base': ('Cut', 'Rule', 'View'),
    '.rules.channels': ('Channels',),
    '.rules.custom': ('PassThrough', 'PerChannel'),
    '.rules.registry': ('register_layer_rule',),
    '.slicing.rule_check': ('check_layer_rule',),
    '.slicing.corrections': ('correct_norms', 'cut_norms', 'narrowed_norms'),
    '.slicing.depth': ('drop_block', 'residual_blocks'),
    '.slicing.planning': ('HeldBack', 'Plan'),
    '.slicing.settling': ('plan_slice',),
    '.slicing.saving': ('plain_model', 'save_model'),
    '.choice.scores': ('channel_scores',),
    '.flat.selection': ('ChannelSelection',),
    '.slicing.builder': ('apply_plan', 'slice_model'),
    '.choice.targets': ('choose_channels',),
    'secateurs.utils.model_files': ('load_model',),
  },
)
