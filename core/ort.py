"""The one place where an ONNX Runtime session is opened."""

from pathlib import Path
from typing import TYPE_CHECKING

from core import hardware

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession


def open_session(
    model: "Path | ModelProto",
    threads: int | None = None,
    *,
    optimize: bool = True,
    memory_pattern: bool = True,
    saturate: bool = True,
    profile: Path | None = None,
) -> "InferenceSession":
    """A session on the CPU that runs `model`, a file or a network in memory.

    threads         None: every core that this process may use
    optimize        False executes node by node, exactly as the file says
    memory_pattern  False saves memory where the shapes change from run to run
    saturate        False: exact sums where this CPU lacks VNNI, too; slower there. A resnet20 of 8-bit weights was 19 % of the
                    largest logit off on an emulated Haswell, and 0 % with this option ("session.x64quantprecision")
    profile         prefix of the file that `session.end_profiling()` names
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads or hardware.cores()
    options.enable_mem_pattern = memory_pattern
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not saturate:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
        options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights have no shape to read
    source = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
