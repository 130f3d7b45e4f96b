#!/usr/bin/env bash
# Model 1, Model 2 and four other backbones, and two of them with Model 1 as their teacher, three seeds each; accuracy,
# size, and latency at 96x96 and 224x224.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
here=experiments/007_backbones
out=outputs/experiments/007_backbones
names="resnet50 efficientnet_b0 efficientnet_b1 efficientnet_b2 mobilenetv4_conv_small mobilenetv4_conv_medium"
for name in $names; do
    .venv/bin/keyframe-train -m experiment=demo backbone=$name seed=0,1,2 hydra.sweep.dir=$out/$name
done
for name in efficientnet_b0 mobilenetv4_conv_small; do
    for seed in 0 1 2; do
        .venv/bin/keyframe-train "experiment=[demo,distill]" backbone=$name seed=$seed teacher=$out/resnet50/$seed \
            hydra.run.dir=$out/${name}_distilled/$seed
    done
    names="$names ${name}_distilled"
done
runs=$(printf ",$out/%s" $names)
.venv/bin/keyframe-compare "runs=[${runs:1}]" "names=[${names// /,}]" \
    'speed.videos=[1]' 'memory.videos=[1]' hydra.run.dir=$out/compare
.venv/bin/python $here/latency.py $here $out $names
cp $out/compare/figures/{accuracy,tradeoff}.png $here/
