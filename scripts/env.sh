# shellcheck shell=bash
# Creates and enters the project's virtual environment; sourced by the other scripts, from any folder.
# It never exits, because it may be sourced in a terminal: on failure it returns 1.
#
# .venv is created once; packages are installed again only when setup.py, pyproject.toml or the Python
# version has changed. SECATEURS_PYTHON selects another interpreter, SECATEURS_VENV another folder; with
# SECATEURS_SYSTEM_PACKAGES=1 the environment also sees the packages of that interpreter. SECATEURS_EXTRAS
# names further extras of setup.py, such as test; they are added to an environment that lacks them.

secateurs_fail() {
  echo "Error: $*" >&2
  return 1
}

# True if the environment exists, with this interpreter's version and with pip.
secateurs_has_venv() {
  [ -x "$SECATEURS_VENV/bin/python" ] &&
    [ "$("$SECATEURS_VENV/bin/python" --version)" = "$("$1" --version)" ] &&
    "$SECATEURS_VENV/bin/python" -m pip --version
}

secateurs_make_venv() {
  local options=() python
  [ -z "${SECATEURS_SYSTEM_PACKAGES:-}" ] || options=(--system-site-packages)
  # The base interpreter, in case $1 is the environment's own.
  python="$("$1" -c 'import sys; print(sys._base_executable)')"
  # Instead of --clear, which would also delete the log and the lock.
  [ ! -f "$SECATEURS_VENV/pyvenv.cfg" ] ||
    rm -rf "${SECATEURS_VENV:?}"/{bin,include,lib,lib64,share,pyvenv.cfg,.secateurs-installed*}
  # Some systems ship venv without ensurepip; then the interpreter's own pip installs pip.
  "$python" -m venv "${options[@]}" "$SECATEURS_VENV" || {
    "$python" -m venv --without-pip "${options[@]}" "$SECATEURS_VENV" &&
      "$python" -m pip --python "$SECATEURS_VENV/bin/python" install pip
  }
}

secateurs_setup() {
  local root="$1" python="${SECATEURS_PYTHON:-python3}" more="${SECATEURS_EXTRAS:-}" base stamp wanted log
  SECATEURS_VENV="${SECATEURS_VENV:-$root/.venv}"
  base="$SECATEURS_VENV/.secateurs-installed" stamp="$SECATEURS_VENV/.secateurs-installed${more:+-$more}"
  command -v "$python" >/dev/null ||
    secateurs_fail "$python was not found: install Python 3.10, 3.11 or 3.12." || return 1
  wanted="$root $("$python" --version) $(cksum <"$root/setup.py") $(cksum <"$root/pyproject.toml")"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
      secateurs_fail "$("$python" --version) was found, but 3.10, 3.11 or 3.12 is needed: set SECATEURS_PYTHON to one of them." || return 1
    echo "Setting up $SECATEURS_VENV: this takes a few minutes, once." >&2
    mkdir -p "$SECATEURS_VENV" ||
      secateurs_fail "$SECATEURS_VENV is not writable: set SECATEURS_VENV to another folder." || return 1
    log="$SECATEURS_VENV/install.log"
    (
      # Two scripts that start at the same time must not both install.
      flock 9 2>/dev/null || true
      [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0
      {
        { secateurs_has_venv "$python" || secateurs_make_venv "$python"; } &&
          "$SECATEURS_VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
            --no-compile --progress-bar off -e "${root}[quant,search${more:+,$more}]"
      } >"$log" 2>&1 || exit 1
      # pip would compile on one core, and all of it: what few runs import is left to them. Files for other
      # versions of Python fail, and are not needed.
      "$SECATEURS_VENV/bin/python" -m compileall -q -j 0 "$SECATEURS_VENV/lib" \
        -x '/(tests?|alembic|fontTools|optuna|pip|pygments|setuptools|sqlalchemy)/' >>"$log" 2>&1 || true
      echo "$wanted" >"$stamp" && echo "$wanted" >"$base"
    ) 9>"$SECATEURS_VENV/.lock" || {
      tail -n 5 "$log" >&2
      secateurs_fail "the installation failed (full log: $log): fix the cause and run the same command again."
      return 1
    }
  fi
  export PATH="$SECATEURS_VENV/bin:$PATH"
  export PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
}

secateurs_setup "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)" || return 1
