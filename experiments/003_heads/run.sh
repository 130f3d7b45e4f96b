#!/usr/bin/env bash
# What the head may see, three seeds each.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/003_heads
out=outputs/experiments/003_heads
.venv/bin/keyframe-train -m experiment=demo head=framewise seed=0,1,2 hydra.sweep.dir=$out/framewise
.venv/bin/keyframe-train -m experiment=demo head=local seed=0,1,2 hydra.sweep.dir=$out/local
.venv/bin/keyframe-train -m experiment=demo head=global seed=0,1,2 hydra.sweep.dir=$out/global
.venv/bin/keyframe-train -m experiment=demo head=dual seed=0,1,2 hydra.sweep.dir=$out/dual
.venv/bin/keyframe-compare "runs=[$out/framewise,$out/local,$out/global,$out/dual]" hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos}.png $here/
