"""Several processes that work as one: Horovod when launched under it, else a stand-in for one.

A job of K processes, its ranks 0 to K - 1, is started by `scripts/run_local.sh ... -n=K`. The calls
here mean the same with one process as with many, so that nothing else asks which it is. All but
`rank`, `size`, `shard` and `is_chief` are collective: every rank must make them, in the same order.

Rank 0 is the chief: it alone reads and writes files (`from_chief`), and what it decides the others
take over. Inside `from_chief` a process is on its own: there `size()` is 1.
"""

from secateurs.utils.training.distributed.chief import (
  chiefs_file,
  first_on_host,
  from_chief,
  require_agreement,
)
from secateurs.utils.training.distributed.objects import (
  barrier,
  broadcast_object,
  broadcast_variables,
  gather_objects,
)
from secateurs.utils.training.distributed.reductions import (
  COMPRESSIONS,
  buckets,
  mean,
  mean_variables,
  sum,
)
from secateurs.utils.training.distributed.world import (
  LAUNCHED,
  LostPeerError,
  alone,
  explained,
  is_chief,
  rank,
  shard,
  size,
  start,
  stop,
)

__all__ = [
  'COMPRESSIONS',
  'LAUNCHED',
  'LostPeerError',
  'alone',
  'barrier',
  'broadcast_object',
  'broadcast_variables',
  'buckets',
  'chiefs_file',
  'explained',
  'first_on_host',
  'from_chief',
  'gather_objects',
  'is_chief',
  'mean',
  'mean_variables',
  'rank',
  'require_agreement',
  'shard',
  'size',
  'start',
  'stop',
  'sum',
]
