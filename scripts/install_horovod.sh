#!/usr/bin/env bash
# Builds Horovod for the project's environment, installs it, and checks it with two processes.
#
# Horovod 0.28.1 has no wheel, and its source needs three things that this script provides: two header
# packages that are missing in TensorFlow's wheel, the removal of an XLA operation that no longer
# compiles and is not needed, and a cmake below 4. Only the environment and the cache are changed, so
# root is never needed: the header packages are only unpacked.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
version=0.28.1
cache="${XDG_CACHE_HOME:-$HOME/.cache}/secateurs/horovod"
headers=(libhighwayhash-dev:highwayhash/sip_hash.h libfarmhash-dev:farmhash.h)

usage() {
  cat <<END
Usage: ./scripts/install_horovod.sh [--rebuild] [--no-check] [-h]
Builds Horovod $version for the project's environment and checks it with a two-process allreduce.
  --rebuild   build again, even if the cache has a wheel for this TensorFlow and Python
  --no-check  skip the check
The wheel is kept in $cache.
HOROVOD_GPU=0 builds for the CPU even if CUDA is installed; SECATEURS_JOBS sets the number of compiler
processes.
END
}

fail() {
  echo "Error: $*" >&2
  exit 1
}

rebuild=0 check=1
for argument in "$@"; do
  case "$argument" in
    -h | --help) usage && exit 0 ;;
    --rebuild) rebuild=1 ;;
    --no-check) check=0 ;;
    *) usage >&2 && fail "$argument is not a flag of install_horovod.sh." ;;
  esac
done

# shellcheck source=scripts/env.sh
source "$root/scripts/env.sh"

# Prints the folders of CUDA and NCCL; fails if one is missing.
find_cuda() {
  [ "${HOROVOD_GPU:-1}" != 0 ] || return 1
  local cuda="${CUDA_HOME:-/usr/local/cuda}" nccl
  if command -v nvcc >/dev/null; then
    cuda="$(cd "$(dirname "$(command -v nvcc)")/.." && pwd)"
  fi
  [ -x "$cuda/bin/nvcc" ] || return 1
  for nccl in "${HOROVOD_NCCL_HOME:-}" "$cuda" /usr \
    "$(python -c 'import nvidia.nccl as n; print(list(n.__path__)[0])' 2>/dev/null || true)"; do
    [ -n "$nccl" ] && [ -f "$nccl/include/nccl.h" ] && echo "$cuda $nccl" && return 0
  done
  echo "CUDA is at $cuda, but NCCL's header nccl.h is missing: install libnccl-dev, or set" \
    "HOROVOD_NCCL_HOME to its folder. Building for the CPU." >&2
  return 1
}

# Prints a folder with the unpacked header packages, unless the system has them.
find_headers() {
  local entry package header folder="$cache/headers" missing=()
  for entry in "${headers[@]}"; do
    package="${entry%%:*}" header="${entry#*:}"
    [ -f "/usr/include/$header" ] || [ -f "$folder/usr/include/$header" ] || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    command -v apt-get >/dev/null ||
      fail "the headers of ${missing[*]} are missing, and there is no apt-get to download them:" \
        "install your system's packages of Google's highwayhash and farmhash."
    mkdir -p "$folder"
    (
      cd "$folder" || exit 1
      apt-get download "${missing[@]}" ||
        { [ "$(id -u)" = 0 ] && apt-get update && apt-get download "${missing[@]}"; }
    ) >"$folder/fetch.log" 2>&1 ||
      fail "${missing[*]} could not be downloaded (log: $folder/fetch.log): run \"apt-get update\" as" \
        "root first, or \"apt-get install ${missing[*]}\"."
    for package in "${missing[@]}"; do
      dpkg-deb -x "$folder/${package}_"*.deb "$folder" ||
        fail "$package could not be unpacked in $folder: delete that folder and run this again."
    done
  fi
  [ ! -d "$folder/usr/include" ] || echo "$folder/usr/include"
}

# Prints a cmake below 4, which gloo's build files need.
find_cmake() {
  local found
  if command -v cmake >/dev/null; then
    found="$(cmake --version | sed -n '1s/[^0-9]*\([0-9]*\)\..*/\1/p')"
    [ "$found" != 3 ] || { command -v cmake && return 0; }
  fi
  [ -x "$cache/cmake/bin/cmake" ] ||
    python -m pip install --quiet --disable-pip-version-check --target "$cache/cmake" \
      'cmake>=3.18,<4' >&2 || fail "no cmake below 4 was found, and pip could not install one."
  printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" "$@"\n' "$cache/cmake" "$cache/cmake/bin/cmake" \
    >"$cache/cmake3"
  chmod +x "$cache/cmake3"
  echo "$cache/cmake3"
}

# Called before ||, which switches set -e off: each step handles its own failure.
build() {
  local work="$1" kind="$2" include cmake cuda nccl
  command -v g++ >/dev/null ||
    fail "no C++ compiler was found: install g++ (Debian and Ubuntu: build-essential)."
  # These two print their own errors, but an exit within $(...) ends only the subshell.
  include="$(find_headers)" || exit 1
  cmake="$(find_cmake)" || exit 1
  python -m pip install --quiet --disable-pip-version-check 'setuptools<81' wheel packaging &&
    python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
      --no-build-isolation --dest "$work" "horovod==$version" &&
    tar -xzf "$work/horovod-$version.tar.gz" -C "$work" &&
    sed -i '/xla_mpi_ops\.cc/d' "$work/horovod-$version/horovod/tensorflow/CMakeLists.txt" ||
    return 1
  export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1
  export HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_CMAKE="$cmake"
  export MAKEFLAGS="-j${SECATEURS_JOBS:-$(nproc)}"
  [ -z "$include" ] || export CPATH="$include${CPATH:+:$CPATH}"
  if [ "$kind" = nccl ]; then
    read -r cuda nccl <<<"$(find_cuda)"
    export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME="$cuda" HOROVOD_NCCL_HOME="$nccl"
  fi
  python -m pip wheel --disable-pip-version-check --no-build-isolation --no-deps \
    --wheel-dir "$work/wheel" "$work/horovod-$version"
}

kind=cpu
if find_cuda >/dev/null; then
  kind=nccl
elif command -v nvidia-smi >/dev/null && [ "${HOROVOD_GPU:-1}" != 0 ]; then
  echo "There is a GPU, but the CUDA toolkit (nvcc) or NCCL, which Horovod is built with, is missing:" \
    "this Horovod will communicate over the CPU. The image of ./scripts/run_docker.sh has both." >&2
fi
key="$(python - <<'END'
import platform
from importlib.metadata import version

print(f'tf{version("tensorflow")}-py{platform.python_version_tuple()[1]}-{platform.machine()}')
END
)-$kind"
mkdir -p "$cache/$key" || fail "$cache is not writable: set XDG_CACHE_HOME to another folder."
exec 9>"$cache/$key/.lock"
flock 9 2>/dev/null || true
wheel="$(find "$cache/$key" -name "horovod-$version-*.whl" | head -n 1)"
if [ -z "$wheel" ] || [ "$rebuild" = 1 ]; then
  echo "Building Horovod $version ($key): some minutes, once." >&2
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  build "$work" "$kind" >"$cache/$key/build.log" || {
    grep -iE 'error|not found' "$cache/$key/build.log" | head -n 5 >&2 || true
    fail "Horovod could not be built; full log: $cache/$key/build.log."
  }
  mv "$work"/wheel/horovod-*.whl "$cache/$key/"
  wheel="$(find "$cache/$key" -name "horovod-$version-*.whl" | head -n 1)"
fi
python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
python -m pip install --quiet --disable-pip-version-check 'cloudpickle' 'psutil' 'pyyaml' 'packaging'
if [ "$check" = 1 ]; then
  # An allreduce through TensorFlow's operation: 1 + 2 on both processes.
  program='import tensorflow as tf, horovod.tensorflow as hvd
hvd.init()
total = float(hvd.allreduce(tf.constant(1.0 + hvd.rank()), op=hvd.Sum))
assert (hvd.size(), total) == (2, 3.0), (hvd.size(), total)'
  TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES='' horovodrun --gloo -np 2 -H localhost:2 \
    python -c "$program" >"$cache/$key/check.log" 2>&1 || {
    tail -n 5 "$cache/$key/check.log" >&2
    for name in localhost "$(hostname)"; do
      getent hosts "$name" >/dev/null ||
        fail "Horovod's processes could not find each other: the name $name has no address on this" \
          "machine: add it to /etc/hosts."
    done
    fail "Horovod is installed, but two processes could not add two numbers (log: $cache/$key/check.log)."
  }
fi
echo "Horovod $version ($key) is installed in $SECATEURS_VENV."
