"""Channel groups, physical slicing, and MAC and parameter counts of tf_keras models."""

from secateurs.utils.graph.costs import plan_cost
from secateurs.utils.graph.counting import LayerCount, ModelCount, count
from secateurs.utils.graph.groups import ChannelGraph, ChannelMap, Group, Member
from secateurs.utils.graph.loading import load_model
from secateurs.utils.graph.masking import masked
from secateurs.utils.graph.planning import HeldBack, Plan, plan_slice
from secateurs.utils.graph.saving import plain_model, save_model
from secateurs.utils.graph.scores import activation_scores, channel_scores
from secateurs.utils.graph.selection import ChannelSelection
from secateurs.utils.graph.slicing import apply_plan, slice_model
from secateurs.utils.graph.targets import choose_channels

__all__ = [
  'ChannelGraph',
  'ChannelMap',
  'ChannelSelection',
  'Group',
  'HeldBack',
  'LayerCount',
  'Member',
  'ModelCount',
  'Plan',
  'activation_scores',
  'apply_plan',
  'channel_scores',
  'choose_channels',
  'count',
  'load_model',
  'masked',
  'plain_model',
  'plan_cost',
  'plan_slice',
  'save_model',
  'slice_model',
]
