#!/usr/bin/env bash
# Model 2 without augmentation, with all parts of conf/augmentation/clip.yaml, and with each part alone, three seeds each.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/008_augmentation
out=outputs/experiments/008_augmentation
jitter=augmentation.jitter=0 drop=augmentation.drop=0 colour=augmentation.colour=0 flip=augmentation.flip=0
train() { .venv/bin/keyframe-train -m experiment=demo seed=0,1,2 hydra.sweep.dir=$out/"$1" "${@:2}"; }
train off
train all augmentation=clip
train drop augmentation=clip $jitter $colour $flip
train jitter augmentation=clip $drop $colour $flip
train colour augmentation=clip $jitter $drop $flip
train flip augmentation=clip $jitter $drop $colour
.venv/bin/keyframe-compare "runs=[$out/off,$out/all,$out/drop,$out/jitter,$out/colour,$out/flip]" \
    'names=[off,all,drop,jitter,colour,flip]' 'memory.videos=[]' 'speed.videos=[1]' speed.repeats=1 hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/accuracy.png $here/
