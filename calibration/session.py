"""The logits of a network for images, and how far they are from those of another network."""

import numpy as np
from onnx import ModelProto

from core.ort import open_session


def predict_logits(proto: ModelProto, batches: list[np.ndarray]) -> np.ndarray:
    """The logits float32 [N, classes] of `batches`, each float32 [n, C, H, W]."""
    session, image = open_session(proto, saturate=False), proto.graph.input[0].name
    return np.concatenate([np.asarray(session.run(None, {image: x})[0]) for x in batches])


def divergence(reference: np.ndarray, logits: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence, in nats per image, of the class probabilities; 0 for equal logits [N, classes].

    It shows the effect of quantization on a few hundred images long before a predicted class changes.
    """
    p, q = log_softmax(reference), log_softmax(logits)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
