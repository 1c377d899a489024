#!/bin/sh
# Trains the bundled pose models on one GPU: a first model, labels cleaned by its opinion, the
# fast model again on clean labels, then the strong one. Every step can be stopped and run again.
#   benchmarks/train_bundled.sh DATA [OUTPUT]     DATA holds lspet/, everyday/ and coco/
# Written without a GPU at hand: its parts are tested on a CPU, the whole has not been run.
# For a rented GPU with few packages and a clock: docs/gpu_training.md.
set -eu
data=$1
out=${2:-runs}

train() { # NAME CONFIG [KEY=VALUE ...]
    name=$1; config=$2; shift 2
    [ -f "$out/$name/weights.safetensors" ] && return
    resume=
    [ -f "$out/$name/state.pt" ] && resume=--resume
    hrtrack train "$config" data.root="$data" data.resident=true "$@" --output "$out/$name" $resume
}

train first body_fast_256x192 fit.epochs=70
[ -f "$out/opinion/teacher_2.npz" ] || hrtrack data pseudo-label \
    body_fast_256x192 "$out/first/weights.safetensors" "$out/opinion" data.root="$data"
opinion=$(cd "$out/opinion" && pwd)
clean="data.train.0.teacher=$opinion/teacher_0.npz"
train strong body_strong_256x192 "$clean"
train fast body_fast_256x192 "$clean" fit.epochs=300

for model in fast strong; do
    hrtrack eval --annotations "$data/lspet/val.json" --images "$data/lspet/images" \
        --model "$out/$model/weights.safetensors" --flip
done
