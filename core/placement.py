"""How a runtime wants Q/DQ nodes placed: the only thing about quantization that a target knows."""

from typing import Literal

from core.config import Config


class Placement(Config):
    """Where Q/DQ nodes go and with which types. Weights are always int8, symmetric, per channel on axis 0.

    activation    integer type of activations, per tensor; `symmetric` puts the zero point at 0 (int8) or 128 (uint8)
    reduce_range  7-bit weights, for CPUs whose uint8 x int8 products saturate (x86 without VNNI)
    bias          "int32" gives biases a DequantizeLinear of their own (scale = activation scale x weight scale);
                  "float" leaves them alone (TensorRT refuses int32 ones)
    residual      Q/DQ at an Add: on "all" of its inputs and its output, or on the "shortcut" input only
    pool          whether pooling, splitting, concatenation and reshaping run on integers, too
    skip          nodes (by name) that stay floating point: the recovery ladder's choice, never a target's
    floats        type of the scales and of everything that stays floating point
    """

    activation: Literal["uint8", "int8"]
    symmetric: bool
    reduce_range: bool = False
    bias: Literal["int32", "float"]
    residual: Literal["all", "shortcut"]
    pool: bool
    skip: tuple[str, ...] = ()
    floats: Literal["float32", "float16"] = "float32"
