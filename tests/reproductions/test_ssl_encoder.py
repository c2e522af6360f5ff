import argparse

import numpy as np
import pytest

pytest.importorskip("torch")

from reproductions import ssl_encoder

pytestmark = pytest.mark.lm


def test_neighbours_vote_with_their_cosines():
    rng = np.random.default_rng(0)
    train, label, test = rng.normal(size=(60, 5)), rng.integers(0, 4, 60), rng.normal(size=(30, 5))
    wanted = []
    for row in test:
        cosine = train @ row / np.linalg.norm(train, axis=1) / np.linalg.norm(row)
        votes = np.zeros(4)
        for n in np.argsort(-cosine)[:7]:
            votes[label[n]] += cosine[n]
        wanted.append(votes.argmax())
    truth = rng.integers(0, 4, 30)
    assert ssl_encoder.knn_accuracy(train, label, test, truth, k=7) == np.mean(np.array(wanted) == truth)


def test_the_command_measures_three_kinds_of_vectors(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)

    def made(rows, test):
        label = [np.arange(n) % 2 for n in (rows, test)]
        x = [np.clip(rng.normal(60 + 120 * k[:, None, None, None], 30, (len(k), 3, 16, 16)), 0, 255) for k in label]
        return x[0].astype(np.uint8), label[0], x[1].astype(np.uint8), label[1]

    monkeypatch.setattr(ssl_encoder, "images", made)
    given = ["--rows", "48", "--test", "12", "--epochs", "2", "--batch-size", "16", "--device", "cpu"]
    ssl_encoder.main([*given, "--out", str(tmp_path / "found.json")])
    said = capsys.readouterr().out
    assert "kNN accuracy by trained without labels" in said and "views a second" in said
    assert (tmp_path / "found.json").is_file()
    found = ssl_encoder.measure(
        argparse.Namespace(rows=48, test=12, epochs=2, batch_size=16, temperature=None, lr=None, seed=0, device="cpu")
    )
    assert found["recipe"]["epochs"] == 2 and found["knn_accuracy"]["raw pixels"] > 0.9
