#!/usr/bin/env bash
# Model 1, Model 2 and four other backbones; accuracy, size, and latency at 96x96 and 224x224. The record has seed 0,
# and seeds 0, 1, 2 of B0 and B2 (metrics_b2_three_seeds.json).
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
here=experiments/007_backbones
out=outputs/experiments/007_backbones
names="resnet50 efficientnet_b0 efficientnet_b1 efficientnet_b2 mobilenetv4_conv_small mobilenetv4_conv_medium"
for name in $names; do
    .venv/bin/keyframe-train -m experiment=demo backbone=$name backbone.pretrained=false seed=${SEEDS:-0} \
        hydra.sweep.dir=$out/$name
done
for name in efficientnet_b0 efficientnet_b2; do
    .venv/bin/keyframe-train -m experiment=demo backbone=$name seed=0,1,2 hydra.sweep.dir=$out/three_seeds/$name
done
.venv/bin/keyframe-compare "runs=[$out/three_seeds/efficientnet_b0,$out/three_seeds/efficientnet_b2]" \
    'names=[efficientnet_b0,efficientnet_b2]' 'memory.videos=[]' hydra.run.dir=$out/three_seeds/compare
cp $out/three_seeds/compare/metrics.json $here/metrics_b2_three_seeds.json
runs=$(printf ",$out/%s" $names)
.venv/bin/keyframe-compare "runs=[${runs:1}]" "names=[${names// /,}]" \
    'speed.videos=[1]' 'memory.videos=[1]' hydra.run.dir=$out/compare
.venv/bin/python $here/latency.py $here $out $names
cp $out/compare/figures/{accuracy,tradeoff}.png $here/
