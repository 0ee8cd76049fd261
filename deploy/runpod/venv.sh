#!/bin/sh
# Makes .venv-runpod, in which the handler is tested under Runpod's SDK. It holds the SDK and what that needs, and takes
# the rest, PyTorch foremost, from .venv. Run by make; the Python to use may be given.
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
