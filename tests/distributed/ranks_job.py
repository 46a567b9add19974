"""What a rank of the tests' jobs runs: stages, one after the other.

Words: a folder, and names of stages. What a stage gives is pickled, before the next one begins.
"""

import pickle
import sys
from pathlib import Path

from collectives_stage import collectives
from learners_stages import resumed, stopped, whole

from secateurs.utils.training import distributed

STAGES = {stage.__name__: stage for stage in (collectives, whole, stopped, resumed)}

distributed.start()
folder = Path(sys.argv[1])
for name in sys.argv[2:]:
  given = STAGES[name](folder / name if name == 'collectives' else folder)
  (folder / f'{name}-{distributed.rank()}.pkl').write_bytes(pickle.dumps(given))
distributed.stop()
