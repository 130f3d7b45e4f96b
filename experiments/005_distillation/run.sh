#!/usr/bin/env bash
# Model 1, Model 2, and Model 2 with Model 1 as its teacher, three seeds each. The settings were chosen by val/spearman of
# seed 0 before the other seeds were run.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/005_distillation
out=outputs/experiments/005_distillation
.venv/bin/keyframe-train -m experiment=demo backbone=resnet50 seed=0,1,2 hydra.sweep.dir=$out/model1
.venv/bin/keyframe-train -m experiment=demo seed=0,1,2 hydra.sweep.dir=$out/model2
distill=(.venv/bin/keyframe-train "experiment=[demo,distill]")
"${distill[@]}" teacher=$out/model1/0 distillation.hint_weight=0 hydra.run.dir=$out/settings/pairwise_kl
"${distill[@]}" teacher=$out/model1/0 distillation.hint_weight=0 loss@distillation.loss=spearman hydra.run.dir=$out/settings/spearman
for seed in 0 1 2; do
    "${distill[@]}" teacher=$out/model1/$seed seed=$seed hydra.run.dir=$out/distilled/$seed
done
.venv/bin/keyframe-compare "runs=[$out/model1,$out/model2,$out/distilled]" names=[model1,model2,distilled] hydra.run.dir=$out/compare
cp $out/compare/metrics.json $out/compare/figures/{accuracy,videos}.png $here/
