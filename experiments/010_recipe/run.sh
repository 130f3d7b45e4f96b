#!/usr/bin/env bash
# The settings of before on the features, folds and seeds of record 003, beside its runs of today's. $1, if given: 003's $1.
source "$(dirname "$0")/../common.sh"
heads=${1:-$out/003_heads}
[ -d $heads/2/dual ] || experiments/003_heads/run.sh $heads
for seed in 0 1 2; do
    [ -d $heads/$seed/before ] || $bin/keyframe-train experiment=cross_validation data=h5 data.path=$heads/features.h5 \
        data.width=1280 data.labels=$heads/demo-seed0-60x28-v3/ydata-tvsum50-anno.tsv logger=none \
        callbacks.curves.every=100 callbacks.regular.every_n_epochs=100 hydra.sweep.dir=$heads/$seed/before seed=$seed \
        trainer.max_epochs=16 loss=spearman scheduler=none data.batch_size=4 optimizer.lr=3e-4 \
        'head.projection=[512,256]' head.layers=3 head.feedforward=384 head.feature_dropout=0
done
$bin/python experiments/table.py $here before=$heads/{0,1,2}/before today=$heads/{0,1,2}/dual
