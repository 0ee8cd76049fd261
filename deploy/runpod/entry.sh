#!/bin/sh
# Becomes the command it is given, after two kindnesses: where there is no volume, the hub's cache goes to /tmp; and with
# HEADWATER_RUN_DEMO=1 and no run in HEADWATER_RUN yet, the demo's is built there (three minutes on two cores). A demo
# that cannot be built is said by the worker, job by job.
set -u
if ! mkdir -p "$HF_HOME" 2>/dev/null || [ ! -w "$HF_HOME" ]; then
  echo "$HF_HOME cannot be written to; models are kept in /tmp/huggingface." >&2
  export HF_HOME=/tmp/huggingface
fi
if [ "${HEADWATER_RUN_DEMO:-0}" = 1 ] && [ ! -e "$HEADWATER_RUN/manifest.json" ]; then
  headwater demo "$HEADWATER_RUN" --no-serve || echo "The demo could not be built in $HEADWATER_RUN." >&2
fi
exec "$@"
