#!/usr/bin/env bash
# Seven heads on equal features of 60 demo videos, five folds, and the table: about an hour of one core. The slow heads have
# fewer epochs and seeds. What is there already is not trained again. $1, if given: a folder for everything that is made.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/003_heads
out=${1:-outputs/experiments/003_heads}
bin=.venv/bin
set=$out/demo-seed0-60x28-v3

make_demo="from pathlib import Path; from keyframe.data.demo import DemoSet, generate"
$bin/python -c "$make_demo; generate(Path('$out'), DemoSet(videos=60))"
[ -f $out/features.h5 ] || $bin/keyframe-features $set/videos out=$out/features.h5 labels=$set/ydata-tvsum50-anno.tsv \
    backbone=efficientnet_lite0 size=112 step=4

train() { # a seed, a name, and what is not as for all
    [ -d $out/$1/$2 ] || $bin/keyframe-train experiment=cross_validation data=h5 data.path=$out/features.h5 \
        data.width=1280 data.labels=$set/ydata-tvsum50-anno.tsv logger=none callbacks.curves.every=100 \
        callbacks.regular.every_n_epochs=100 hydra.sweep.dir=$out/$1/$2 seed=$1 "${@:3}"
}
train 0 vasnet head=vasnet trainer.max_epochs=10 optimizer.lr=3e-4
train 0 pgl_sum head=pgl_sum trainer.max_epochs=6 optimizer.lr=3e-4
for seed in 0 1 2; do
    train $seed dual trainer.max_epochs=16
    train $seed plain 'head.similarity=[]' trainer.max_epochs=16
    train $seed mlp head=mlp trainer.max_epochs=16
    train $seed bilstm head=bilstm trainer.max_epochs=12
done
train 0 csta head=csta trainer.max_epochs=3

models=$out/0/vasnet,$out/0/pgl_sum,$out/0/csta
for name in bilstm mlp plain dual; do
    models="[$out/0/$name,$out/1/$name,$out/2/$name],$models"
done
$bin/keyframe-compare "runs=[$models]" names=[dual,plain,mlp,bilstm,vasnet,pgl_sum,csta] pictures=0 hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos}.png $here/
$bin/python $here/table.py
