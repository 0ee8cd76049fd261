#!/bin/sh
# Makes .venv-peers, in which Headwater races its peers: `make bench-peers`. The Python to use may be given.
#
# kronfluence and bergson require torchvision (and bergson torchaudio and bitsandbytes), which have no build for a CPU's
# torch and which nothing raced here imports. So all three are installed without their dependencies, and those that they
# do import are listed below.
set -eu
cd "$(dirname "$0")/../.."
venv=.venv-peers
test -x $venv/bin/python || "${1:-python3}" -m venv $venv
echo '*' > $venv/.gitignore
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt"
$pip torch==2.13.0
$pip -e '.[bench]'
$pip --no-deps kronfluence==1.0.1 einconv==0.1.0 bergson==2.5.1 dattri-llm==0.1.0
$pip jaxtyping==0.3.11 ml_dtypes==0.6.0 natsort==8.4.0 peft==0.21.2 petname==2.9 simple-parsing==0.1.9 torchopt==0.7.3
touch $venv/.installed
