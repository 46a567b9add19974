#!/usr/bin/env bash
# Runs every learner on one network and data set with the same training and compares them on one page.
#
#   ./scripts/leaderboard.sh nets/<net>_at_<data set>_run.py [flags for all of them]
#
# Environment:
#   OUT      folder of the runs and of compare.html (./leaderboard)
#   SEEDS    seeds of each row ("0 1 2")
#   MACS     fractions of the MACs that stay, for all that cuts channels or blocks ("0.5 0.25")
#   ZEROS    fractions of the weights that become zero, for all that keeps the shapes ("0.75 0.9")
#   BITS     bits of the weights for the learners that quantise (4); deep-compression has its own
#   LEARNERS names of learners and of published methods (all learners that compress; "methods": all rows
#            of python -m secateurs.learners)
#   JOBS     runs at the same time, each on its own cores (1); the results are the same
#   SCRATCH  1: also train the slim networks of the channel learners from random weights (1)
#
# A row is a learner or method at one budget (scripts/leaderboard_rows.py). Rows that decide by
# themselves how much goes (dcp-adapt, rows that cut what is zero) are there once. The network itself,
# trained on for the same epochs, is row "dense". A row that trains from random weights (chex, or a
# --<prefix>from_scratch) takes as long as a baseline: compare "images trained".
#
# scripts/keep_report.py "$OUT/RUN" docs/results/leaderboard/RUN.json keeps a run for docs/leaderboard.md,
# which scripts/update_docs.py makes with a paired test against l1.
#
# Run the same command again to resume interrupted runs; finished runs are not repeated. A run that
# fails does not stop the others: its name is printed at the end, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
  exit 0
fi
entry="$1"
shift
out="${OUT:-./leaderboard}" seeds="${SEEDS:-0 1 2}"
# shellcheck source=scripts/env.sh
source scripts/env.sh
flags=("$@") failed=()

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

# The cores that this process may use, not all of the machine's.
mapfile -t cores < <(python -c 'import os; print(*sorted(os.sched_getaffinity(0)), sep="\n")')
jobs="${JOBS:-1}"
[ "$jobs" -le "${#cores[@]}" ] || jobs="${#cores[@]}"

# run_on PLACE COMMAND...: on the cores of one of the jobs.
run_on() {
  local each=$((${#cores[@]} / jobs)) first list
  first=$(($1 * each))
  shift
  if [ "$jobs" -gt 1 ]; then
    list="$(IFS=,; echo "${cores[*]:first:each}")"
    taskset -c "$list" "$@"
  else
    "$@"
  fi
}

# dense SEED PLACE: the network itself, trained on.
dense() {
  echo "== dense, seed $1"
  run_on "$2" python scripts/train_from_scratch.py "$entry" --run_dir "$out/dense-seed$1" --seed "$1" \
    --scratch_start trained --scratch_of dense "${baseline[@]}" "${uncut[@]}"
}

# one NAME RUN SEED PLACE FLAG...: a row and its slim networks from scratch.
one() {
  local name="$1" run="$2" seed="$3" place="$4" slim budget
  shift 4
  echo "== $name, $run"
  run_on "$place" ./scripts/run_local.sh "$entry" --learner "$name" --run_dir "$out/$run" \
    --seed "$seed" "${baseline[@]}" "$@" "${flags[@]}" || return 1
  # The same slim networks trained from random weights: equal epochs, equal compute.
  slim="$(find "$out/$run" -path '*_eval/model.keras' \( -path '*/models_cp_eval/*' \
    -o -path '*/models_dcp_eval/*' -o -path '*/models_fp_eval/*' -o -path '*/models_rp_eval/*' \
    -o -path '*/models_gp_eval/*' -o -path '*/models_pr_eval/*' \) | head -n 1)"
  if [ "${SCRATCH:-1}" = 1 ] && [ -n "$slim" ]; then
    for budget in epochs macs; do
      echo "== $run's slim network from scratch, equal $budget"
      run_on "$place" python scripts/train_from_scratch.py "$entry" \
        --run_dir "$out/$run-scratch-$budget" --seed "$seed" --scratch_model "$slim" \
        --scratch_of "$name" --scratch_budget "$budget" "${baseline[@]}" "${uncut[@]}" || return 1
    done
  fi
}

# The dense rows come first: their report has the MACs that some budgets are fractions of.
runs=()
for seed in $seeds; do
  dense "$seed" 0 || failed+=("dense-seed$seed")
  runs+=("$out/dense-seed$seed")
done
whole="$(python - "$out" <<'PYTHON'
import json, pathlib, sys
found = sorted(pathlib.Path(sys.argv[1]).glob('dense-seed*/logs/*/report.json'))
print(json.loads(found[0].read_text('utf-8'))['original']['macs'] if found else '')
PYTHON
)"
read -ra asked <<<"${LEARNERS:-}"
rows="$(python scripts/leaderboard_rows.py "${asked[@]}" --macs "${MACS:-0.5 0.25}" \
  --zeros "${ZEROS:-0.75 0.9}" --bits "${BITS:-4}" --given="${flags[*]}" ${whole:+--whole "$whole"})"

# running[PLACE] is the process at work there, names[PLACE] its run.
running=() names=()
finish() {
  [ -n "${running[$1]:-}" ] || return 0
  wait "${running[$1]}" || failed+=("${names[$1]}")
  running[$1]=''
}
place=0
for seed in $seeds; do
  while IFS=$'\t' read -r name budget own <&3; do
    run="$name-$budget-seed$seed"
    read -ra budget_flags <<<"$own"
    if [ "$jobs" -gt 1 ]; then
      finish "$place"
      one "$name" "$run" "$seed" "$place" "${budget_flags[@]}" >"$out/$run.log" 2>&1 3<&- &
      running[place]="$!" names[place]="$run"
      echo "== $run: $out/$run.log"
      place=$(((place + 1) % jobs))
    else
      one "$name" "$run" "$seed" 0 "${budget_flags[@]}" 3<&- || failed+=("$run")
    fi
    runs+=("$out/$run" "$out/$run-scratch-epochs" "$out/$run-scratch-macs")
  done 3<<<"$rows"
done
for ((place = 0; place < jobs; place++)); do finish "$place"; done
found=()
for run in "${runs[@]}"; do
  [ -z "$(find "$run" -name report.json -print -quit 2>/dev/null)" ] || found+=("$run")
done
[ "${#found[@]}" -eq 0 ] || python -m secateurs.utils.deploy.compare "${found[@]}" --out "$out"
if [ "${#failed[@]}" -gt 0 ]; then
  echo "These runs failed; run the command again to resume them: ${failed[*]}" >&2
  exit 1
fi
