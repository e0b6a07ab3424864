"""Classify images on the device: python infer.py image.png … — needs numpy, Pillow and the engine's runtime only."""

import argparse
import json
from pathlib import Path

import numpy as np
from preprocess import load, preprocess
from runner import open_engine

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--top", type=int, default=3, help="how many classes to print per image")
    arguments = parser.parse_args()
    spec = json.loads((HERE / "preprocess.json").read_text())
    labels = (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()
    run = open_engine(HERE)
    for path in arguments.images:
        logits = run(preprocess(load(path, spec), spec))[0].astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-logits, kind="stable")[: arguments.top]
        print(f"{path}: " + ", ".join(f"{labels[i]} {100 * probabilities[i]:.1f} %" for i in best))


if __name__ == "__main__":
    main()
