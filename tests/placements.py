"""How the targets place Q/DQ on this machine."""

from core.placement import Placement
from core.profile import here
from export import targets


def placement_of(target: str) -> Placement:
    found = targets.get(target).placement(here())
    assert found is not None
    return found


ORT, OPENVINO, TRT, RTX = map(placement_of, ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"))
