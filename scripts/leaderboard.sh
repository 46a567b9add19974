#!/usr/bin/env bash
# Runs every learner on one network and data set with the same training and compares them on one page.
#
#   ./scripts/leaderboard.sh nets/<net>_at_<data set>_run.py [flags for all of them]
#
# Environment:
#   OUT      folder of the runs and of compare.html (./leaderboard)
#   SEEDS    seeds of each learner (0)
#   RATIO    fraction to remove: of the MACs for channel learners, of the weights for weight-sparse (0.5)
#   BITS     bits of the weights for the learners that quantise (4)
#   LEARNERS names of learners and of published methods (all learners that compress; "methods": all rows
#            of python -m secateurs.learners)
#   JOBS     runs at the same time, each on its own cores (1); the results are the same
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
# Each name with its learner, which decides the flag of the budget.
declare -A learner_of=()
names=''
while read -r name learner; do
  learner_of["$name"]="$learner"
  names+=" $name"
done < <(python -c '
import sys
from secateurs.utils.quiet import quiet_tensorflow
quiet_tensorflow()
from secateurs.learners import learners
from secateurs.learners.methods import METHODS, resolve
asked = sys.argv[1].split() or [name for name in learners() if name != "full-prec"]
for name in METHODS if asked == ["methods"] else asked:
  print(name, resolve(name)[0].name)' "${LEARNERS:-}")
[ -n "$names" ] || exit 1

# Neither the baseline nor networks from scratch are cut: rules and plans have no effect on them.
uncut=() is_value=0
for word in "$@"; do
  case "$is_value$word" in
    1*) is_value=0 ;;
    0--layers | 0--plan) is_value=1 ;;
    0--layers=* | 0--plan=*) ;;
    *) uncut+=("$word") ;;
  esac
done

baseline=()
case " $* " in
  *' --warm_start_path'*) ;;
  *)
    # One baseline for all runs, so that they start from the same weights.
    ./scripts/run_local.sh "$entry" --learner full-prec --run_dir "$out/baseline" "${uncut[@]}"
    baseline=(--warm_start_path "$out/baseline/models/model.ckpt")
    ;;
esac
jobs="${JOBS:-1}" cores="$(nproc)"

# one NAME SEED CORES: a learner and its slim networks from scratch, on some cores.
one() {
  local name="$1" seed="$2" pin=(taskset -c "$3") own=() run="$out/$1-seed$2" slim budget
  case "$name" in
    chn-pruned) own=(--cp_prune_option auto --cp_preserve_ratio "$stay") ;;
    dis-chn-pruned) own=(--dcp_prune_option auto --dcp_preserve_ratio "$stay") ;;
    amc) own=(--cp_preserve_ratio "$stay") ;;
    filter-pruned) own=(--fp_prune_option auto --fp_preserve_ratio "$stay") ;;
    *)
      case "${learner_of[$name]}" in
        # The rows of these learners have one ratio for all layers.
        chn-pruned) own=(--cp_uniform_preserve_ratio "$stay") ;;
        dis-chn-pruned) own=(--dcp_prune_ratio "$ratio") ;;
        filter-pruned) own=(--fp_preserve_ratio "$stay") ;;
        reg-pruned) own=(--rp_preserve_ratio "$stay") ;;
        gate-pruned) own=(--gp_preserve_ratio "$stay") ;;
        prune-regrow) own=(--pr_preserve_ratio "$stay") ;;
        weight-sparse) own=(--ws_prune_ratio "$ratio") ;;
        uniform-quant)
          case " ${flags[*]} " in
            *' --uql_equivalent_bits'* | *' --uql_target_bytes'*) ;; # They choose bits by layer.
            *) own=(--uql_weight_bits "${BITS:-4}") ;;
          esac
          ;;
        non-uniform-quant) own=(--nuql_weight_bits "${BITS:-4}") ;;
      esac
      ;;
  esac
  [ "$jobs" -gt 1 ] || pin=()
  echo "== $name, seed $seed"
  "${pin[@]}" ./scripts/run_local.sh "$entry" --learner "$name" --run_dir "$run" --seed "$seed" \
    "${baseline[@]}" "${own[@]}" "${flags[@]}" || return 1
  # The same slim networks trained from random weights: equal epochs, equal compute.
  slim="$(find "$run" -path '*_eval/model.keras' -not -path '*/models_ws_eval/*')"
  if [ "${SCRATCH:-1}" = 1 ] && [ -n "$slim" ]; then
    for budget in epochs macs; do
      echo "== $name's slim network from scratch, equal $budget, seed $seed"
      "${pin[@]}" python scripts/train_from_scratch.py "$entry" --run_dir "$run-scratch-$budget" \
        --seed "$seed" --scratch_model "$slim" --scratch_of "$name" --scratch_budget "$budget" \
        "${baseline[@]}" "${uncut[@]}" || return 1
    done
  fi
}

flags=("$@")
runs=() place=0 running=()
for seed in $seeds; do
  for name in $names; do
    each=$((cores / jobs > 0 ? cores / jobs : 1))
    first=$((place % jobs * each % cores))
    if [ "$jobs" -gt 1 ]; then
      mkdir -p "$out"
      if [ "${#running[@]}" -ge "$jobs" ]; then
        wait "${running[0]}" # The oldest has these cores.
        running=("${running[@]:1}")
      fi
      one "$name" "$seed" "$first-$((first + each - 1))" >"$out/$name-seed$seed.log" 2>&1 &
      running+=("$!")
      echo "== $name, seed $seed: $out/$name-seed$seed.log"
    else
      one "$name" "$seed" 0
    fi
    place=$((place + 1))
    runs+=("$out/$name-seed$seed" "$out/$name-seed$seed-scratch-epochs" "$out/$name-seed$seed-scratch-macs")
  done
done
for process in "${running[@]}"; do wait "$process"; done
found=()
for run in "${runs[@]}"; do [ ! -d "$run" ] || found+=("$run"); done
python -m secateurs.utils.deploy.compare "${found[@]}" --out "$out"
