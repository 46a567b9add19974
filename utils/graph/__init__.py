"""Channel groups, physical slicing, and MAC and parameter counts of tf_keras models."""

from secateurs.utils.graph.counting import LayerCount, ModelCount, count
from secateurs.utils.graph.groups import ChannelGraph, ChannelMap, Group, Member
from secateurs.utils.graph.masking import masked
from secateurs.utils.graph.planning import HeldBack, Plan, plan_slice
from secateurs.utils.graph.saving import plain_model, save_model
from secateurs.utils.graph.selection import ChannelSelection
from secateurs.utils.graph.slicing import apply_plan, slice_model

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
  'apply_plan',
  'count',
  'masked',
  'plain_model',
  'plan_slice',
  'save_model',
  'slice_model',
]
