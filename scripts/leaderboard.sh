#!/usr/bin/env bash
# Runs every learner on one network and data set with the same training and compares them on one page.
#
#   ./scripts/leaderboard.sh nets/<net>_at_<data set>_run.py [flags for all of them]
#
# Environment:
#   OUT      folder of the runs and of compare.html (./leaderboard)
#   SEEDS    seeds of each learner (0)
#   RATIO    fraction to remove: of the MACs for channel learners, of the weights for weight-sparse (0.5)
#   LEARNERS names of the learners (all that compress)
#   SCRATCH  1: also train the slim networks of the channel learners from random weights (1)
#
# Run the same command again to resume interrupted runs; finished runs are not repeated.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
  exit 0
fi
entry="$1"
shift
out="${OUT:-./leaderboard}" seeds="${SEEDS:-0}" ratio="${RATIO:-0.5}"
# shellcheck source=scripts/env.sh
source scripts/env.sh
stay="$(python -c "print(round(1 - $ratio, 6))")"
names="${LEARNERS:-$(python -c '
from secateurs.utils.quiet import quiet_tensorflow
quiet_tensorflow()
from secateurs.learners import learners
print(*[name for name in learners() if name != "full-prec"])')}"

baseline=()
case " $* " in
  *' --warm_start_path'*) ;;
  *)
    # One baseline for all runs, so that they start from the same weights.
    ./scripts/run_local.sh "$entry" --learner full-prec --run_dir "$out/baseline" "$@"
    baseline=(--warm_start_path "$out/baseline/models/model.ckpt")
    ;;
esac
runs=()
for seed in $seeds; do
  for name in $names; do
    case "$name" in
      chn-pruned) own=(--cp_prune_option auto --cp_preserve_ratio "$stay") ;;
      dis-chn-pruned) own=(--dcp_prune_option auto --dcp_preserve_ratio "$stay") ;;
      weight-sparse) own=(--ws_prune_ratio "$ratio") ;;
      *) own=() ;;
    esac
    run="$out/$name-seed$seed"
    echo "== $name, seed $seed"
    ./scripts/run_local.sh "$entry" --learner "$name" --run_dir "$run" --seed "$seed" \
      "${baseline[@]}" "${own[@]}" "$@"
    runs+=("$run")
    # The same slim networks trained from random weights: equal epochs, equal compute.
    slim="$(find "$run" -path '*_eval/model.keras' -not -path '*/models_ws_eval/*')"
    if [ "${SCRATCH:-1}" = 1 ] && [ -n "$slim" ]; then
      for budget in epochs macs; do
        echo "== $name's slim network from scratch, equal $budget, seed $seed"
        python scripts/train_from_scratch.py "$entry" --run_dir "$run-scratch-$budget" --seed "$seed" \
          --scratch_model "$slim" --scratch_of "$name" --scratch_budget "$budget" \
          "${baseline[@]}" "$@"
        runs+=("$run-scratch-$budget")
      done
    fi
  done
done
python -m secateurs.utils.deploy.compare "${runs[@]}" --out "$out"
