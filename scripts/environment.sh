# Sourced by the other scripts: puts a Python with the requirements on PATH, and makes one in .venv if none is active.
# Usage: source scripts/environment.sh [further pip packages]

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    if [ ! -x "$repository/.venv/bin/python" ]; then
        echo "making a virtual environment in $repository/.venv"
        python3 -m venv "$repository/.venv"
    fi
    # shellcheck disable=SC1091
    source "$repository/.venv/bin/activate"
fi
echo "installing requirements into $(python -c 'import sys; print(sys.prefix)') (the first time takes minutes)"
python -m pip install --quiet --disable-pip-version-check --requirement "$repository/requirements.txt" "$@"
