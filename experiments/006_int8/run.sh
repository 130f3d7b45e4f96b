#!/usr/bin/env bash
# Both models over three seeds, exported, then compared with their int8 files at every pick; seed 0 in all formats.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
here=experiments/006_int8
out=outputs/experiments/006_int8
.venv/bin/keyframe-train -m experiment=demo seed=0,1,2 hydra.sweep.dir=$out/model2
.venv/bin/keyframe-train -m experiment=demo seed=0,1,2 backbone=resnet50 hydra.sweep.dir=$out/model1
for seed in 0 1 2; do
    format=$([ $seed = 0 ] && echo "[torchscript,torch_export,onnx,onnx_int8]" || echo "[onnx,onnx_int8]")
    for model in model1 model2; do
        .venv/bin/keyframe-export run=$out/$model/$seed "format=$format" repeats=5 hydra.run.dir=$out/export/$model/$seed
    done
    int8=("$out/export/model2/$seed/efficientnet_b0.int8.onnx" "$out/export/model1/$seed/resnet50.int8.onnx")
    .venv/bin/keyframe-compare "runs=[$out/model2/$seed,${int8[0]},$out/model1/$seed,${int8[1]}]" \
        "speed.videos=[1]" speed.repeats=9 "memory.videos=[]" hydra.run.dir=$out/compare/$seed
    cp $out/compare/$seed/metrics.json $here/metrics_seed$seed.json
done
cp $out/compare/2/figures/tradeoff.png $here/
.venv/bin/python $here/pooled.py $out/compare/*/per_video.csv
