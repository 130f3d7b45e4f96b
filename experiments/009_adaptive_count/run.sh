#!/usr/bin/env bash
# Model 2, three seeds; then how much to keep, calibrated on validation videos and measured on test videos.
# TVSUM=.../ydata-tvsum50.mat adds what the official labels say of people's own lengths.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/009_adaptive_count
out=outputs/experiments/009_adaptive_count
.venv/bin/keyframe-train -m experiment=demo seed=0,1,2 hydra.sweep.dir=$out/efficientnet_b0
.venv/bin/python $here/study.py $here $out/efficientnet_b0/[0-9]* ${TVSUM:-}
