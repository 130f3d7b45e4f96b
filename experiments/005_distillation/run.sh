#!/usr/bin/env bash
# Model 1, Model 2, and Model 2 with Model 1 as its teacher, three seeds each.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/005_distillation
out=outputs/experiments/005_distillation
.venv/bin/keyframe-train -m experiment=demo backbone=resnet50 seed=0,1,2 hydra.sweep.dir=$out/model1
.venv/bin/keyframe-train -m experiment=demo backbone=efficientnet_b0 seed=0,1,2 hydra.sweep.dir=$out/model2
distill=(.venv/bin/keyframe-train "experiment=[demo,distill]")
# settings, chosen by val/spearman of seed 0: these two, and distilled/0 below
"${distill[@]}" teacher=$out/model1/0 distillation.hint_weight=0 hydra.run.dir=$out/soft/0
"${distill[@]}" teacher=$out/model1/0 distillation.hint_weight=0 loss@distillation.loss=spearman hydra.run.dir=$out/soft_spearman
# the best of them, and its two parts apart, with all seeds
for seed in 0 1 2; do
    "${distill[@]}" teacher=$out/model1/$seed seed=$seed hydra.run.dir=$out/distilled/$seed
    "${distill[@]}" teacher=$out/model1/$seed seed=$seed distillation.weight=0 hydra.run.dir=$out/hints/$seed
done
for seed in 1 2; do
    "${distill[@]}" teacher=$out/model1/$seed seed=$seed distillation.hint_weight=0 hydra.run.dir=$out/soft/$seed
done
# the control: hints of a Model 1 that has learnt nothing
.venv/bin/keyframe-train experiment=demo backbone=resnet50 trainer.max_epochs=1 finetune=frozen optimizer.lr=1e-12 hydra.run.dir=$out/untrained
"${distill[@]}" teacher=$out/untrained distillation.weight=0 hydra.run.dir=$out/untrained_hints
# speed is that of record 001
.venv/bin/keyframe-compare "runs=[$out/model1,$out/model2,$out/soft,$out/hints,$out/distilled]" \
    "names=[model1,model2,soft,hints,distilled]" "speed.videos=[1]" speed.repeats=1 "memory.videos=[]" hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos}.png $here/
