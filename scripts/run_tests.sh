#!/usr/bin/env bash
# Runs linters and tests: ./scripts/run_tests.sh [pytest arguments]; -m "not slow" is the fast lane,
# --exhaustive adds those of many alike that the suite leaves out.
# Test files run in parallel, one more than there are cores (up to four), because tests also wait for
# processes that they start; -n 0 runs them one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
SECATEURS_EXTRAS="test" source scripts/env.sh
ruff check .
ruff format --check .
shellcheck -x scripts/*.sh
# A worker has one core: more threads would wait for each other.
export TF_NUM_INTRAOP_THREADS="${TF_NUM_INTRAOP_THREADS:-1}" TF_NUM_INTEROP_THREADS="${TF_NUM_INTEROP_THREADS:-1}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
cores="$(python -c 'import os; print(len(os.sched_getaffinity(0)))')"
exec python -m pytest -n "$((cores < 3 ? cores + 1 : 4))" --dist loadfile --no-loadscope-reorder "$@"
