"""Prove the engine on this device: its file is unchanged, and it answers golden.npz as it did when it was made.

Exits with 0 when both hold, else with 1 and one line that says what does not.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from preprocess import preprocess
from runner import open_engine

HERE = Path(__file__).resolve().parent


def main() -> str | None:
    about = json.loads((HERE / "bundle.json").read_text())
    spec = json.loads((HERE / "preprocess.json").read_text())
    digest = hashlib.sha256((HERE / about["engine"]).read_bytes()).hexdigest()
    if digest != about["sha256"]:
        return f"{about['engine']} has been changed: SHA-256 {digest[:12]}…, expected {about['sha256'][:12]}…; copy it again"
    with np.load(HERE / "golden.npz") as golden:
        expected, inputs = golden["logits"], golden["inputs"]
        images = [golden[f"image{k}"] for k in range(len(inputs))]
    raw = [Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image) for image in images]
    prepared = np.concatenate([preprocess(image, spec) for image in raw])
    if not np.array_equal(prepared, inputs):
        return "preprocessing differs from the pipeline's: expected bit-identical inputs; check numpy's and Pillow's versions"
    run = open_engine(HERE)
    logits = np.concatenate([run(x[None]) for x in prepared])
    share = float(np.abs(logits - expected).max() / np.abs(expected).max())
    agreeing = int((logits.argmax(1) == expected.argmax(1)).sum())
    if not share <= about["tolerance"]:
        return (
            f"logits differ by {share:.3f} of the largest one (same class for {agreeing} of {len(logits)} images); "
            f"expected at most {about['tolerance']}: this device computes the engine differently"
        )
    print(f"ok: {len(logits)} images, logits within {share:.4f} of the largest one, same class for {agreeing}")
    return None


if __name__ == "__main__":
    sys.exit(main())
