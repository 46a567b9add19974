#!/usr/bin/env bash
# Runs a job on this machine: ./scripts/run_local.sh nets/<net>_at_<data set>_run.py [flags]
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"

usage() {
  echo "Usage: ./scripts/run_local.sh <entry script> [flags]; entry scripts:"
  (cd "$root" && ls nets/*_run.py)
  echo "Flags of one: ./scripts/run_local.sh nets/resnet_at_cifar10_run.py --help"
}

if [ $# -eq 0 ] || [ "$1" = -h ] || [ "$1" = --help ]; then
  usage
  exit 0
fi
script="$1"
shift
[ -f "$script" ] || script="$root/$script"
if [ ! -f "$script" ]; then
  echo "Error: the entry script ${script#"$root/"} does not exist." >&2
  usage >&2
  exit 2
fi
# shellcheck source=scripts/env.sh
source "$root/scripts/env.sh"
exec python "$script" "$@"
