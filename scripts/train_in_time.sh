#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Trains the small models on a GPU that is lent for a limited time (docs/training/gpu_half_hour.md).
#
#     scripts/train_in_time.sh DATA OUTPUT MODEL=MINUTES...
#
# For example: scripts/train_in_time.sh /tmp/in/pack "$OUT" asymtrack_lite0=4 asymtrack_t=4
# PYTHON and EXTRA (more options of `vt-models train`) may be set.
set -euo pipefail

if [ $# -lt 3 ]; then
  sed -n '4,9p' "$0" >&2
  exit 2
fi
data=$1 output=$2
shift 2

# Batches for a large GPU. `samples` is what it would see at full speed: where it is slower, the
# schedules follow the clock. Checkpoints every few seconds would only cost time.
large=(--set checkpoint_every=100000 --set validate_every=0 --set optim.batch_size=256)
for order in "$@"; do
  model=${order%%=*} minutes=${order#*=}
  case $model in
    asymtrack_lite0)
      options=(--set optim.samples=1500000 --set optim.lr=2e-3 --set optim.warmup_samples=25600)
      options+=(--set optim.decay_start=0.5 --set "optim.frozen=[]")
      ;;
    asymtrack_t)
      options=(--set optim.samples=1500000 --set optim.warmup_samples=25600)
      if [ -e "$data/../start.safetensors" ]; then # of `vt-models distill-backbone`
        options+=(--start-from "$data/../start.safetensors")
      fi
      ;;
    procontext_tiny)
      options=(--set optim.samples=800000 --set optim.lr=1e-3 --set optim.warmup_samples=25600)
      options+=(--set pruning.start=80000 --set pruning.length=240000)
      ;;
    pjvlt_tiny)
      options=(--set optim.samples=800000 --set optim.lr=1e-3 --set optim.warmup_samples=25600)
      if [ -e "$data/../text.safetensors" ]; then
        options+=(--text-weights "$data/../text.safetensors")
      fi
      ;;
    *)
      echo "unknown model $model" >&2
      exit 2
      ;;
  esac
  # shellcheck disable=SC2086 # EXTRA holds several words
  "${PYTHON:-python3}" -m vt_models train "recipes/${model}_pack.yaml" --data "$data" \
    --output "$output/$model" --max-minutes "$minutes" "${large[@]}" "${options[@]}" ${EXTRA:-}
done
