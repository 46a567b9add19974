#!/usr/bin/env bash
# Lints and tests: ./scripts/run_tests.sh [pytest arguments], such as -m "not slow" for the fast lane.
# Files of tests run side by side, one for each core (up to four); -n 0 runs one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
source scripts/env.sh
ruff check .
ruff format --check .
shellcheck -x scripts/*.sh
exec python -m pytest -n auto --maxprocesses 4 --dist loadfile \
  --no-loadscope-reorder "$@"
