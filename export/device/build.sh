#!/bin/sh
# Build model.engine on this device, measure it, verify it. With the Python package tensorrt, or with trtexec where it is missing.
# ./build.sh [model.onnx | legacy.onnx]     without a name: first the file for this version of TensorRT, then the other one
set -eu
cd "$(dirname "$0")"

has_python() { python3 -c 'import numpy' >/dev/null 2>&1; }

value() { # a text in build.json, which has one entry per line
    sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" build.json
}

knows() { # whether this trtexec has the option
    case $options in *"  $1 "*) return 0 ;; *) return 1 ;; esac
}

timing() { # the options of trtexec that make every version time the same: a CUDA graph where possible, both copies included
    for option in --includeDataTransfers --useCudaGraph --useSpinWait; do # TensorRT 11 has the last two by default
        if knows $option; then echo $option; fi
    done
}

flags() { # the options of trtexec for the types in file $1
    # model.onnx states all types; legacy.onnx is float32 outside of its Q/DQ, which trtexec makes float16 where possible.
    if [ "$1" = model.onnx ] && knows --stronglyTyped; then
        echo --stronglyTyped
    elif knows --int8; then
        echo --int8 --fp16
    fi # TensorRT 11 has neither option: every network is strongly typed there
}

with_trtexec() { # build the first of the files $@ that trtexec can build; sets $built
    for file in "$@"; do
        [ -f "$file" ] || continue
        echo "building model.engine from $file with $trtexec"
        # At least 1,000 queries after a second of warm-up.
        # shellcheck disable=SC2046 # several words each
        if "$trtexec" --onnx="$file" --saveEngine=model.engine $(value trtexec) $(flags "$file") \
            --warmUp=1000 --iterations=1000 $(timing) --exportTimes=times.json \
            --profilingVerbosity=detailed --exportLayerInfo=layers.json >trtexec.log 2>&1; then
            built=$file
            grep -e ' Latency: ' trtexec.log || true
            return 0
        fi
        echo "$file cannot be built: $(grep -m 1 -e '\[E\]' trtexec.log || tail -n 1 trtexec.log) (full log: trtexec.log)"
    done
    return 1
}

if python3 -c 'import numpy, tensorrt; tensorrt.__version__' >/dev/null 2>&1; then
    python3 build_engine.py "$@"
    exec python3 verify.py
fi

trtexec=$(command -v trtexec || command -v /usr/src/tensorrt/bin/trtexec || true)
if [ -z "$trtexec" ]; then
    echo "no TensorRT found: neither the Python package tensorrt nor trtexec; install TensorRT from JetPack or NVIDIA" >&2
    exit 1
fi
options=$("$trtexec" --help 2>&1 || true)
if [ $# -eq 0 ]; then
    # Strong typing came with TensorRT 10; older parsers read up to opset 17 and only float32 scales.
    if knows --stronglyTyped || ! knows --int8; then set -- model.onnx legacy.onnx; else set -- legacy.onnx model.onnx; fi
fi
if ! with_trtexec "$@"; then
    echo "no file can be built on this device; see trtexec.log" >&2
    exit 1
fi
if ! has_python; then
    echo "model.engine is built but not verified: install python3 and numpy, then run python3 verify.py" >&2
    exit 1
fi
python3 build_engine.py --built-by-trtexec "$built"
exec python3 verify.py
