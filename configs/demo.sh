#!/usr/bin/env bash
# The main job as the commands a user would type: dump → pairs → ladder of models → results → report.
# Called by `make demo`: demo.sh OUT [DUMP] [EVAL_DATA]. Run again, it continues where it stopped.
set -euo pipefail
out=$1 dump=${2:-} benchmarks=${3:-} suite=configs/eval/quick.yaml
# Real posts and published items are long: this many keep the job within minutes.
max_pairs=2048 num_pairs_per_set=100

run() {
  printf '\n$ worldpm %s\n' "$*"
  worldpm "$@"
}

if [ -z "$dump" ]; then
  dump=$out/dump
  run data generate configs/data/generate.yaml "output_dir=$dump"
  made_up=$dump max_pairs=8192
fi
if [ -z "$benchmarks" ]; then # the made-up test sets of the three kinds stand in
  benchmarks=${made_up:-$out/made-up} suite=configs/eval/demo.yaml num_pairs_per_set=500
  [ -n "${made_up:-}" ] || run data generate configs/data/generate.yaml "output_dir=$benchmarks" num_posts=1000
fi

run data build configs/data/demo.yaml "source.path=$dump" "output_dir=$out/pairs"
run eval prepare "$suite" "data_dir=$benchmarks" "output_dir=$out/test_sets"
run sweep launch configs/sweep/demo.yaml "data.path=$out/pairs" "output_dir=$out/runs" \
  "overrides.test_sets=@$out/test_sets/test_sets.yaml" "overrides.batch.max_pairs=$max_pairs" \
  "overrides.evaluation.max_pairs_per_set=$num_pairs_per_set"
run eval run "$suite" "model=$out/runs/tiny-5-seed0/model" "data_dir=$benchmarks" "output_dir=$out/results"
run scaling report configs/scaling/report.yaml "runs=$out/runs" "output_dir=$out/report"

cat <<END

done. Where things are:
  pairs    $out/pairs/card.md          what was kept, what was dropped and why
  runs     $out/runs/*/run.json        one folder a model size, with its checkpoint in model/
  results  $out/results/report.html    the largest model on the test sets
  report   $out/report/report.html     loss against data for each size, with intervals and verdicts
END
