#!/usr/bin/env bash
# Both models exported in all formats, then compared with their files at every pick.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/006_int8
out=outputs/experiments/006_int8
.venv/bin/keyframe-train experiment=demo hydra.run.dir=$out/model2
.venv/bin/keyframe-train experiment=demo backbone=resnet50 hydra.run.dir=$out/model1
.venv/bin/keyframe-export run=$out/model2 repeats=9 hydra.run.dir=$out/export2
.venv/bin/keyframe-export run=$out/model1 repeats=5 hydra.run.dir=$out/export1
.venv/bin/keyframe-compare \
    "runs=[$out/model2,$out/export2/efficientnet_b0.int8.onnx,$out/model1,$out/export1/resnet50.int8.onnx]" \
    "speed.videos=[1]" speed.repeats=9 "memory.videos=[]" hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/tradeoff.png $here/
