#!/usr/bin/env bash
# ./scripts/run_seven.sh nets/<net>_at_<data set>_run.py [-n=K] [flags]; see -h.
set -euo pipefail
python="${SECATEURS_PYTHON:-python3}"
command -v "$python" >/dev/null || {
  echo "Error: $python was not found: install Python 3.10, 3.11 or 3.12." >&2
  exit 1
}
exec "$python" "$(dirname "$0")/launcher" seven "$@"
