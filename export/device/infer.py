"""Classify images on the device: python infer.py image.png … — needs numpy, Pillow and the engine's runtime only."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

try:
    import numpy as np
    from preprocess import load, preprocess
    from runner import open_engine
except ModuleNotFoundError as error:
    name = "pillow" if error.name == "PIL" else error.name
    todo = "copy the bundle again" if name in ("preprocess", "runner") else f"pip install {name}"
    sys.exit(f"{name} is missing; infer.py needs numpy, pillow and the engine's runtime: {todo}")

HERE = Path(__file__).resolve().parent


def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=3, help="how many classes to print per image")
    arguments = parser.parse_args()
    spec = json.loads((HERE / "preprocess.json").read_text())
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    try:
        run = open_engine(HERE)
    except Exception as error:  # every runtime has its own types
        return f"the engine does not run here ({type(error).__name__}: {' '.join(str(error).split())})"
    for path in arguments.images:
        try:
            x = preprocess(load(path, spec), spec)
        except OSError as error:
            return f"{path} cannot be read ({error}); pass files with images"
        logits = run(x)[0].astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-logits, kind="stable")[: arguments.top]
        print(f"{path}: " + ", ".join(f"{labels[i]} {100 * probabilities[i]:.1f} %" for i in best))
    return None


if __name__ == "__main__":
    sys.exit(main())
