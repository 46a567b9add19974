#!/usr/bin/env bash
# Lints and tests: ./scripts/run_tests.sh [pytest arguments], such as -m "not slow" for the fast lane.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/env.sh
source scripts/env.sh
ruff check .
ruff format --check .
shellcheck -x scripts/*.sh
exec python -m pytest "$@"
