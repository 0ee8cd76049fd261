#!/bin/sh
# Makes .venv-runpod, where the handler is tested with Runpod's SDK. It holds the SDK and its dependencies. All else, such as
# PyTorch, comes from .venv. make runs this script; its argument is the Python to use (default python3).
set -eu
cd "$(dirname "$0")/../.."
venv=.venv-runpod
test -x $venv/bin/python || "${1:-python3}" -m venv $venv
echo '*' > $venv/.gitignore
packages=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
shared=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$shared')" > "$packages/shared.pth"
grep -v '^python-dateutil==' constraints.txt | cat - deploy/runpod/constraints.txt > $venv/pins.txt
$venv/bin/python -m pip install --quiet --disable-pip-version-check -c $venv/pins.txt runpod
touch $venv/.installed
