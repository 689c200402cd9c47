#!/bin/sh
# The work pools of prefect.yaml, where they are not there yet, and its deployments.
set -eu
for pool in orchestrator gpu; do
  prefect work-pool inspect "$pool" > /dev/null 2>&1 || prefect work-pool create "$pool" --type process
done
exec prefect --no-prompt deploy --all
