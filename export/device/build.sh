#!/bin/sh
# Build model.engine on this device, measure it, verify it. With Python's tensorrt, or with trtexec where that is missing.
# ./build.sh [model.onnx | legacy.onnx]     without a name the one that fits the TensorRT here, then the other one
set -eu
cd "$(dirname "$0")"

has_python() { command -v python3 >/dev/null 2>&1; }

value() { # of a text in build.json, one on each line
    sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" build.json
}

knows() { # whether this trtexec has the option
    case $options in *"  $1 "*) return 0 ;; *) return 1 ;; esac
}

flags() { # how trtexec is to treat the types of file $1
    # model.onnx says the type of everything; legacy.onnx is float32 outside its Q/DQ, to be made float16 where possible.
    if [ "$1" = model.onnx ] && knows --stronglyTyped; then
        echo --stronglyTyped
    elif knows --int8; then
        echo --int8 --fp16
    fi # TensorRT 11 has neither: there every network is strongly typed
}

with_trtexec() { # of the first of the files $@ that it builds; sets $built
    for file in "$@"; do
        [ -f "$file" ] || continue
        echo "building model.engine of $file with $trtexec"
        # At least 1,000 queries after a second of warm-up; the latency includes both copies.
        # shellcheck disable=SC2046 # several words each
        if "$trtexec" --onnx="$file" --saveEngine=model.engine $(value trtexec) $(flags "$file") \
            --warmUp=1000 --iterations=1000 --exportTimes=times.json >trtexec.log 2>&1; then
            built=$file
            grep -e ' Latency: ' trtexec.log || true
            return 0
        fi
        echo "$file is refused: $(grep -m 1 -e '\[E\]' trtexec.log || tail -n 1 trtexec.log) (all of it: trtexec.log)"
    done
    return 1
}

if has_python && python3 -c 'import numpy, tensorrt' >/dev/null 2>&1; then
    python3 build_engine.py "$@"
    exec python3 verify.py
fi

trtexec=$(command -v trtexec || command -v /usr/src/tensorrt/bin/trtexec || true)
if [ -z "$trtexec" ]; then
    echo "no TensorRT here: neither Python's tensorrt nor trtexec is found; install JetPack's or NVIDIA's TensorRT" >&2
    exit 1
fi
options=$("$trtexec" --help 2>&1 || true)
if [ $# -eq 0 ]; then
    # Strong typing came with TensorRT 10; before it parsers end at opset 17 and float32 scales.
    if knows --stronglyTyped || ! knows --int8; then set -- model.onnx legacy.onnx; else set -- legacy.onnx model.onnx; fi
fi
if ! with_trtexec "$@"; then
    echo "no file here can be built; trtexec.log says why" >&2
    exit 1
fi
if ! has_python; then
    echo "model.engine is built, but not verified: that takes python3 with numpy, then python3 verify.py" >&2
    exit 1
fi
python3 build_engine.py --built-by-trtexec "$built"
exec python3 verify.py
