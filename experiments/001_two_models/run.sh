#!/usr/bin/env bash
# Model 1 and Model 2, three seeds each.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/001_two_models
out=outputs/experiments/001_two_models
.venv/bin/keyframe-train -m experiment=demo backbone=resnet50 seed=0,1,2 hydra.sweep.dir=$out/resnet50
.venv/bin/keyframe-train -m experiment=demo backbone=efficientnet_b0 seed=0,1,2 hydra.sweep.dir=$out/efficientnet_b0
.venv/bin/keyframe-compare "runs=[$out/resnet50,$out/efficientnet_b0]" hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos,tradeoff}.png $here/
