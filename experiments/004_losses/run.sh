#!/usr/bin/env bash
# What is minimised, three seeds each.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/004_losses
out=outputs/experiments/004_losses
.venv/bin/keyframe-train -m experiment=demo loss=mse seed=0,1,2 hydra.sweep.dir=$out/mse
.venv/bin/keyframe-train -m experiment=demo loss=pairwise seed=0,1,2 hydra.sweep.dir=$out/pairwise
.venv/bin/keyframe-train -m experiment=demo loss=weighted seed=0,1,2 hydra.sweep.dir=$out/weighted
.venv/bin/keyframe-train -m experiment=demo loss=spearman seed=0,1,2 hydra.sweep.dir=$out/spearman
.venv/bin/keyframe-compare "runs=[$out/mse,$out/pairwise,$out/weighted,$out/spearman]" hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos}.png $here/
