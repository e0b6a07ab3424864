"""How a runtime needs Q/DQ nodes to be placed: the only property of quantization that a target defines."""

from typing import Literal

from core.config import Config


class Placement(Config):
    """Where Q/DQ nodes go and with which types. Weights are always int8, symmetric, per channel on axis 0.

    activation    integer type of activations, per tensor; `symmetric` puts the zero point at 0 (int8) or 128 (uint8)
    reduce_range  7-bit weights, for CPUs whose uint8 x int8 products saturate (x86 without VNNI)
    bias          "int32": a bias gets its own DequantizeLinear (scale = activation scale x weight scale);
                  "float": biases stay floating point (TensorRT rejects int32 biases)
    residual      Q/DQ at an Add: on "all" of its inputs and its output, or on the "shortcut" input only
    pool          whether pooling, splitting, concatenation and reshaping run on integers, too
    average       whether the average at the end reads integers, where `pool` is off
    classifier    whether the classifier (Gemm) runs on integers
    skip          nodes (by name) that stay floating point; chosen by the recovery ladder, never by a target
    floats        type of the scales and of all tensors that stay floating point
    input         type of the images and of their scale where they are quantized, for `floats` = "float16": "floats", that type
    """

    activation: Literal["uint8", "int8"]
    symmetric: bool
    reduce_range: bool = False
    bias: Literal["int32", "float"]
    residual: Literal["all", "shortcut"]
    pool: bool
    average: bool = False
    classifier: bool = True
    skip: tuple[str, ...] = ()
    floats: Literal["float32", "float16"] = "float32"
    input: Literal["floats", "float32"] = "floats"
