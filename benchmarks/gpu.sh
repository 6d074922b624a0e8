#!/bin/sh
# Everything that a GPU would tell, in one script of under eight minutes on an H100 or the like:
#
#     sh benchmarks/gpu.sh [FOLDER]                   # a CUDA device; results into FOLDER (benchmarks/results)
#     sh benchmarks/gpu.sh --dry-run                  # no GPU: the same programs at toy size through Triton's interpreter
#
# Tests marked gpu, the operator beside its peers, a training step beside the dense model, and a million columns. Each part
# runs whether or not the one before it failed, under a limit of its own; the last line says how many failed.
set -u
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python="${PYTHON:-python3}"
failed=0

part() {
    limit="$1" name="$2"
    shift 2
    echo
    echo "== $name"
    if ! timeout "$limit" "$@"; then
        echo "== $name: failed or ran past $limit s"
        failed=$((failed + 1))
    fi
}

if [ "${1:-}" = "--dry-run" ]; then
    export TRITON_INTERPRET=1 MPLBACKEND=agg
    part 120 "tests marked gpu are found" "$python" -m pytest -q -m gpu --collect-only -p no:cacheprovider tests/ops
    part 240 "the operator" "$python" benchmarks/gpu_attention.py --dry-run
    part 240 "a training step" "$python" benchmarks/gpu_training_step.py --dry-run
elif case "${1:-}" in -*) true ;; *) false ;; esac; then
    echo "usage: sh benchmarks/gpu.sh [FOLDER | --dry-run], got $1" >&2
    exit 2
else
    out="${1:-benchmarks/results}"
    mkdir -p "$out"
    part 120 "tests marked gpu" "$python" -m pytest -q -m gpu -p no:cacheprovider --junitxml "$out/gpu_tests.xml" tests/ops
    part 210 "the operator, and a million columns" "$python" benchmarks/gpu_attention.py \
        --subdivisions 5 6 --channels 64 --out "$out/gpu_attention.json"
    part 140 "a training step" "$python" benchmarks/gpu_training_step.py --out "$out/gpu_training_step.json"
fi
echo
echo "$failed parts failed"
exit $((failed > 0))
