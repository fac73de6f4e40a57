# shellcheck shell=bash
# Sourced by the other scripts: puts a Python with the requirements on PATH, and makes one in .venv if none is active.
# Usage: source scripts/environment.sh [further arguments of pip install]

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    if [ ! -f "$repository/.venv/bin/activate" ]; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
            echo "error: Python 3.11 or newer expected, found $(python3 --version 2>&1); install one, or activate an environment" >&2
            exit 2
        }
        echo "making a virtual environment in $repository/.venv"
        python3 -m venv --clear "$repository/.venv" || {
            echo "error: python3 -m venv failed; install it (Debian: apt-get install python3-venv), or activate an environment" >&2
            exit 2
        }
    fi
    # shellcheck disable=SC1091
    source "$repository/.venv/bin/activate"
fi
echo "installing requirements into $(python -c 'import sys; print(sys.prefix)') (the first time takes minutes)"
python -m pip install --quiet --disable-pip-version-check --requirement "$repository/requirements.txt" "$@"
