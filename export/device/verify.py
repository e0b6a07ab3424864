"""Verify the bundle on this device: the engine file is unchanged, and its logits are those of the build machine.

Needs numpy and the engine's runtime. Where Pillow 9.1 or newer is installed, decoding and preprocessing are checked as well,
bit for bit.
Exits with 0 when all checks pass, else with 1 and one line about the check that failed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from io import BytesIO
from pathlib import Path

try:
    import numpy as np
    from cpu import kind
    from runner import open_engine
except ModuleNotFoundError as error:
    todo = "copy the bundle again" if error.name in ("cpu", "runner") else f"pip install {error.name}"
    sys.exit(f"{error.name} is missing; verify.py needs numpy and the engine's runtime: {todo}")
try:
    import PIL
    from preprocess import load, preprocess
except ModuleNotFoundError as error:
    if error.name != "PIL":
        raise
    PIL = None

HERE = Path(__file__).resolve().parent
OLDEST_PILLOW = (9, 1)  # Ubuntu 22.04, the system of JetPack 6, has 9.0.1


def main() -> str | None:
    try:
        about = json.loads((HERE / "bundle.json").read_text())
        spec = json.loads((HERE / "preprocess.json").read_text())
        digest = hashlib.sha256((HERE / about["engine"]).read_bytes()).hexdigest()
        with np.load(HERE / "golden.npz") as golden:
            inputs, expected, made_with = golden["inputs"], golden["logits"], str(golden["pillow"])
            files = [golden[f"image{k}"].tobytes() for k in range(len(inputs))]
        elsewhere = another_cpu(about["made_for"]["cpu"])
    except Exception as error:  # json, zipfile, zlib and numpy raise a dozen types for broken files
        return f"the bundle cannot be read ({in_one_line(error)}); copy it again"
    if digest != about["sha256"]:
        return f"{about['engine']} has been changed: SHA-256 {digest[:12]}…, expected {about['sha256'][:12]}…; copy it again"

    try:
        run = open_engine(HERE)
        logits = np.concatenate([run(x[None]) for x in inputs])
    except Exception as error:  # every runtime has its own types
        return f"{about['engine']} does not run here ({in_one_line(error)})"
    if logits.shape != expected.shape:
        return f"the engine's logits have shape {logits.shape}, those of golden.npz {expected.shape}; copy the bundle again"
    share = float(np.abs(logits - expected).max() / np.abs(expected).max())
    agreeing = int((logits.argmax(1) == expected.argmax(1)).sum())
    if not share <= about["tolerance"]:
        return (
            "results differ too much from the build machine: check CPU type and runtime version (logits differ by "
            f"{share:.3f} of the largest one, expected at most {about['tolerance']}; same class for {agreeing} of "
            f"{len(logits)} images){'; ' + elsewhere if elsewhere else ''}"
        )
    unchecked = without_pillow()
    wrong = None if unchecked else preparation(files, inputs, spec, made_with)
    if wrong:
        return wrong
    prepared = f"preprocessing was not checked, because {unchecked}" if unchecked else "preprocessing bit-identical"
    print(f"ok: {len(logits)} images, logits within {share:.4f} of the largest one, same class for {agreeing}; {prepared}")
    if elsewhere:
        print(
            f"note: {elsewhere}: its times, and for some images its predictions, may differ from those of a bundle for this CPU"
        )
    return None


def another_cpu(made_for: str) -> str | None:
    """A few words if this is another CPU than the bundle was made for; else None."""
    here = kind()
    return None if here == made_for else f"the bundle was made for {made_for}, and this CPU is {here}"


def without_pillow() -> str | None:
    """A few words if there is no Pillow here that can check decoding and preprocessing; else None."""
    if PIL is None:
        return "Pillow is not installed"
    if tuple(map(int, PIL.__version__.split(".")[:2])) < OLDEST_PILLOW:
        return f"Pillow {PIL.__version__} is older than {'.'.join(map(str, OLDEST_PILLOW))}"
    return None


def preparation(files: list[bytes], inputs: np.ndarray, spec: dict, made_with: str) -> str | None:
    """One line when the image `files`, decoded and preprocessed here, are not exactly `inputs` [N, C, H, W]; else None."""
    check = f"check preprocess.json and Pillow's version: {PIL.__version__} here, {made_with} on the build machine"
    differences = []
    for k, wanted in enumerate(inputs):
        try:
            x = preprocess(load(BytesIO(files[k]), spec), spec)[0]
        except Exception as error:  # OSError for the image; any type for gaps in preprocess.json or an old Pillow
            return f"golden image {k} cannot be decoded or preprocessed here ({in_one_line(error)}); {check}"
        if x.shape != wanted.shape:
            return f"decoding or preprocessing differs: inputs of shape {x.shape}, expected {wanted.shape}; {check}"
        if x.tobytes() != wanted.tobytes():
            differences.append(float(np.abs(x - wanted).max()))
    if differences:
        count, worst = f"{len(differences)} of {len(files)} images", max(differences)
        return f"decoding or preprocessing differs for {count} (largest difference {worst:.3g}); {check}"
    return None


def in_one_line(error: Exception) -> str:
    """`error` in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main())
