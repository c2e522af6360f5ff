"""Do vectors of an encoder that never saw a label know the classes? `python -m reproductions.ssl_encoder`.

An encoder (`--encoder ssl` of the verbs) is trained on the images of CIFAR-10 without labels. Test images then get the
class that most of their nearest training images have (cosine): by the trained encoder's vectors, by those of the same
net untrained, and by raw pixels. More is better; chance is 0.1. Also told: CPU seconds a view, from which the price of
other sizes follows.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dataworth.formats import open_pool
from dataworth.learners.labelled import LabelledEncoder
from dataworth.learners.simclr import ImageEncoder, pixel_order, pixel_range, train_encoder
from dataworth.recipe import SelfSupervisedRecipe
from reproductions import flan


def images(rows: int, test: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """The first train and test images in the order of their pixels' hash, with their classes."""
    folder, encoder = flan.data_folder() / "cifar10", LabelledEncoder(range(10), (3, 32, 32))
    out: list[Any] = []
    for pattern, count in (("train-*.parquet", rows), ("test.parquet", test)):
        pool = open_pool(sorted(folder.glob(pattern)))
        found = [encoder.encode(pool.example(n)) for n in range(min(count, len(pool)))]
        x_N = np.stack([row.x for row in found])
        order = pixel_order(x_N)
        out += [x_N[order], np.array([row.label for row in found])[order]]
    return tuple(out)  # type: ignore[return-value]


def knn_accuracy(
    train_ND: NDArray[Any], label_N: NDArray[np.int64], test_QD: NDArray[Any], label_Q: NDArray[np.int64], k: int = 20
) -> float:
    """Share of test rows whose class is the one with the largest sum of cosines among their k nearest."""
    unit_ND, unit_QD = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (train_ND, test_QD))
    cosine_QN = unit_QD @ unit_ND.T
    nearest_Qk = np.argpartition(-cosine_QN, k - 1, axis=1)[:, :k]
    votes_QC = np.zeros((len(test_QD), label_N.max() + 1))
    for column in nearest_Qk.T:
        votes_QC[np.arange(len(votes_QC)), label_N[column]] += cosine_QN[np.arange(len(votes_QC)), column]
    return float((votes_QC.argmax(axis=1) == label_Q).mean())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train, and compare the three kinds of vectors."""
    torch.set_num_threads(1)
    given = {"epochs": args.epochs, "batch_size": args.batch_size, "temperature": args.temperature, "lr": args.lr}
    recipe = SelfSupervisedRecipe(**{k: v for k, v in given.items() if v is not None})
    x_N, label_N, x_Q, label_Q = images(args.rows, args.test)
    pixels_ND, pixels_QD = (x.reshape(len(x), -1).astype(np.float32) - 127.5 for x in (x_N, x_Q))
    encoder = ImageEncoder(3, recipe, args.seed, pixel_range(x_N), args.device)
    accuracy = {"raw pixels": knn_accuracy(pixels_ND, label_N, pixels_QD, label_Q)}
    accuracy["untrained net"] = knn_accuracy(encoder.vectors(x_N), label_N, encoder.vectors(x_Q), label_Q)
    with tempfile.TemporaryDirectory() as aside:
        began = time.process_time()
        losses = train_encoder(encoder, x_N, Path(aside))
        seconds = time.process_time() - began
    accuracy["trained without labels"] = knn_accuracy(encoder.vectors(x_N), label_N, encoder.vectors(x_Q), label_Q)
    return {
        "sizes": {"rows": len(x_N), "test": len(x_Q)},
        "recipe": asdict(recipe),
        "seed": args.seed,
        "dtype": encoder.dtype,
        "knn_accuracy": accuracy,
        "losses": losses,
        "cpu_seconds": seconds,
        "views_per_second": 2 * recipe.epochs * len(x_N) / seconds,
        "machine": platform.platform(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--test", type=int, default=2_000)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the figures here, too")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    result = measure(args)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result) if args.json else report(result))


def report(result: dict[str, Any]) -> str:
    """The figures as lines of text."""
    sizes, recipe = result["sizes"], result["recipe"]
    lines = [f"{sizes['rows']:,} images of CIFAR-10, {recipe['epochs']} epochs; {sizes['test']:,} test images"]
    lines += [f"  kNN accuracy by {name}: {value:.3f}" for name, value in result["knn_accuracy"].items()]
    lines.append(f"  loss {result['losses'][0]:.3f} -> {result['losses'][-1]:.3f}")
    lines.append(f"  {result['cpu_seconds']:.0f} CPU seconds, {result['views_per_second']:,.0f} views a second")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
