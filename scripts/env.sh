# shellcheck shell=bash
# Makes and enters the project's virtual environment; sourced by the other scripts, from any folder.
#
# .venv is made once and installed into again only when setup.py or the Python version has changed.
# SECATEURS_PYTHON names another interpreter, SECATEURS_VENV another folder; with
# SECATEURS_SYSTEM_PACKAGES=1 the environment sees what that interpreter has installed.

secateurs_fail() {
  echo "Error: $*" >&2
  exit 1
}

secateurs_make_venv() {
  local options=()
  [ -z "${SECATEURS_SYSTEM_PACKAGES:-}" ] || options=(--system-site-packages)
  # Some systems ship venv without ensurepip; the interpreter's own pip can stand in for it.
  "$1" -m venv "${options[@]}" "$SECATEURS_VENV" || {
    "$1" -m venv --clear --without-pip "${options[@]}" "$SECATEURS_VENV" &&
      "$1" -m pip --python "$SECATEURS_VENV/bin/python" install pip
  }
}

secateurs_setup() {
  local root="$1" python="${SECATEURS_PYTHON:-python3}" stamp wanted log
  SECATEURS_VENV="${SECATEURS_VENV:-$root/.venv}"
  stamp="$SECATEURS_VENV/.secateurs-installed"
  command -v "$python" >/dev/null ||
    secateurs_fail "$python was not found: install Python 3.10, 3.11 or 3.12."
  wanted="$root $("$python" --version) $(cksum <"$root/setup.py") $(cksum <"$root/pyproject.toml")"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
      secateurs_fail "$("$python" --version) was found, but 3.10, 3.11 or 3.12 is needed: name one with SECATEURS_PYTHON."
    echo "Setting up $SECATEURS_VENV: this takes a few minutes, once." >&2
    mkdir -p "$SECATEURS_VENV" ||
      secateurs_fail "$SECATEURS_VENV cannot be written to: name another folder with SECATEURS_VENV."
    log="$SECATEURS_VENV/install.log"
    (
      # Two scripts that start at once must not install at once.
      flock 9 2>/dev/null || true
      [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0
      {
        { [ -x "$SECATEURS_VENV/bin/pip" ] || secateurs_make_venv "$python"; } &&
          "$SECATEURS_VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
            -e "${root}[search,test]"
      } >"$log" 2>&1 || exit 1
      echo "$wanted" >"$stamp"
    ) 9>"$SECATEURS_VENV/.lock" || {
      tail -n 5 "$log" >&2
      secateurs_fail "the installation failed (whole log: $log): mend what it says and run the same command again."
    }
  fi
  export PATH="$SECATEURS_VENV/bin:$PATH"
  export PYTHONUNBUFFERED=1 TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
}

secateurs_setup "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
