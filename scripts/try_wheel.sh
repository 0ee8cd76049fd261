#!/bin/sh
# Uses Headwater as it is installed in the environment $1, far from the source: version, doctor, a small demo, a plugin.
set -eu
environment=$(cd "$1" && pwd)
plugin=$(pwd)/examples/plugin
unset PYTHONPATH
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cp -r "$plugin" "$elsewhere/plugin"
cd "$elsewhere"
PATH=$environment/bin:$PATH
headwater --version
headwater doctor
headwater --log json demo demo --stories 200 --no-serve > answers.txt 2> demo.log || { cat demo.log; exit 1; }
grep -c "Checked against the world" answers.txt > /dev/null
headwater --quiet ask demo "Once upon a time" -k 1 --json > answer.json
pip install --quiet --disable-pip-version-check --no-deps ./plugin
headwater doctor | grep "headwater.curvatures shampoo, of headwater-example .*: works"
