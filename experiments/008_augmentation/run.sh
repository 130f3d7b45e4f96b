#!/usr/bin/env bash
# Model 2 without augmentation, with all parts of conf/augmentation/clip.yaml, and with each part alone. The record has
# seed 0 of jitter, colour and flip.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/008_augmentation
out=outputs/experiments/008_augmentation
jitter=augmentation.jitter=0 drop=augmentation.drop=0 colour=augmentation.colour=0 flip=augmentation.flip=0
train() { .venv/bin/keyframe-train -m experiment=demo hydra.sweep.dir=$out/"$1" "${@:2}"; }
train off seed=0,1,2
train all seed=0,1,2 augmentation=clip
train drop seed=0,1,2 augmentation=clip $jitter $colour $flip
train jitter seed=${SEEDS:-0} augmentation=clip $drop $colour $flip
train colour seed=${SEEDS:-0} augmentation=clip $jitter $drop $flip
train flip seed=${SEEDS:-0} augmentation=clip $jitter $drop $colour
.venv/bin/keyframe-compare "runs=[$out/off,$out/all,$out/drop]" 'names=[off,all,drop]' 'memory.videos=[]' 'speed.videos=[1]' speed.repeats=1 \
    hydra.run.dir=$out/three_seeds
.venv/bin/keyframe-compare "runs=[$out/off/0,$out/all/0,$out/drop/0,$out/jitter/0,$out/colour/0,$out/flip/0]" \
    'names=[off,all,drop,jitter,colour,flip]' 'memory.videos=[]' 'speed.videos=[1]' speed.repeats=1 \
    hydra.run.dir=$out/seed0
cp $out/three_seeds/metrics.json $out/three_seeds/figures/accuracy.png $here/
cp $out/seed0/metrics.json $here/metrics_seed0.json
cp $out/seed0/figures/accuracy.png $here/accuracy_seed0.png
