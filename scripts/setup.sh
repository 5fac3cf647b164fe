#!/bin/sh
# Makes the virtual environment of this checkout, or brings it up to date: setup.sh FOLDER
# PYTHON chooses the interpreter; without it the first suitable one on PATH is taken.
set -eu

folder=$1
version='import sys; print("%d.%d" % sys.version_info[:2])'
new_enough='import sys; sys.exit(sys.version_info < (3, 10))'
has_venv='import venv, ensurepip'

found=
without_venv=
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
    "$candidate" -c "$new_enough" 2>/dev/null || continue
    if "$candidate" -c "$has_venv" 2>/dev/null; then
        found=$candidate
        break
    fi
    without_venv=${without_venv:-$candidate}
done

if [ -z "$found" ] && [ -n "$without_venv" ]; then
    echo "$without_venv has no venv module. On Debian and Ubuntu it is a package of its own:" >&2
    echo "    apt install python3-venv    (or python$("$without_venv" -c "$version")-venv)" >&2
    exit 1
fi
if [ -z "$found" ]; then
    echo "streamll needs Python 3.10 or newer, which ${PYTHON:-python3} is not. Choose one with" >&2
    echo "    make PYTHON=/path/to/python3" >&2
    exit 1
fi

if [ "$("$folder/bin/python" -c "$version" 2>/dev/null)" != "$("$found" -c "$version")" ]; then
    echo "Making $folder with $found ($("$found" -c "$version"))"
    rm -rf "$folder"
    "$found" -m venv "$folder"
fi

echo "Installing streamll and its development tools into $folder (half a minute the first time)"
pip="$folder/bin/python -m pip --quiet --disable-pip-version-check"
$pip install --upgrade "pip>=25.1" # the first that reads dependency groups
$pip install --editable . --group dev
