"""`--encoder ssl` through the verbs: vectors of images without a label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dataworth as dw
from dataworth.errors import RequestError
from dataworth.selfsupervised import recipe_of

pytestmark = pytest.mark.lm
TINY = "ssl:epochs=2,batch_size=20,width=2,dtype=fp32"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))


def pictures(path: Path, label: np.ndarray, rows: int = 40) -> str:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (rows, 3, 8, 8), dtype=np.uint8).repeat(2, axis=2).repeat(2, axis=3)
    np.savez(path, image=image.transpose(0, 2, 3, 1), label=label)
    return str(path)


def vectors_of(pool: str, cache: Path, monkeypatch: pytest.MonkeyPatch, **fields: object) -> np.ndarray:
    from dataworth import artefacts, config
    from dataworth.session import open_session

    monkeypatch.setenv("DATAWORTH_CACHE", str(cache))
    values = {"pool": pool, "encoder": TINY, "workers": 0, "device": "cpu", **fields}
    with open_session(config.build(config.SelectRequest, values), None) as session:
        return artefacts.vectors(session)


def test_permuted_labels_and_rows_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.arange(40) % 4
    one = pictures(tmp_path / "one.npz", label)
    other = pictures(tmp_path / "other.npz", label[np.random.default_rng(1).permutation(40)])
    a, b = (vectors_of(pool, tmp_path / f"cache{n}", monkeypatch) for n, pool in enumerate((one, other)))
    assert a.shape == (40, 8) and np.isfinite(a).all() and a.tobytes() == b.tobytes()
    with np.load(one) as found:
        np.savez(tmp_path / "turned.npz", image=found["image"][::-1], label=found["label"][::-1])
    turned = vectors_of(str(tmp_path / "turned.npz"), tmp_path / "cache2", monkeypatch)
    assert turned[::-1].tobytes() == a.tobytes()
    assert vectors_of(one, tmp_path / "cache0", monkeypatch, seed=1).tobytes() != a.tobytes()


def test_pools_of_the_same_images_share_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataworth.probes import images

    vectors_of(pictures(tmp_path / "a.npz", np.arange(40) % 4), tmp_path / "cache", monkeypatch)
    monkeypatch.delattr(images, "train_encoder")
    assert len(vectors_of(pictures(tmp_path / "b.npz", np.arange(40) % 2), tmp_path / "cache", monkeypatch)) == 40


def test_prototypes_are_label_free_and_say_so(tmp_path: Path) -> None:
    pool = pictures(tmp_path / "pool.npz", np.arange(40) % 4)
    given = {"method": "prototypes", "option": ("clusters=4",), "keep": 9, "workers": 0, "device": "cpu"}
    found = dw.select(pool, **given, encoder=TINY, run=str(tmp_path / "run"), out=str(tmp_path / "kept.npz"))
    assert len(found.ids) == 9
    assert "method prototypes is label-free: its vectors are by an encoder" in str(dw.view(tmp_path / "run").to_dict())
    assert dw.replay(tmp_path / "run").identical
    assert dw.replay(tmp_path / "run", from_scratch=True).identical
    (tmp_path / "net.yaml").write_text("epochs: 1\nwidth: 2\nbatch_size: 20\ndtype: fp32\n")
    other = dw.select(pool, **given, model="resnet", recipe=str(tmp_path / "net.yaml"), run=str(tmp_path / "net"))
    assert any("label-free given a supervised encoder" in note for note in other.record["notes"])
    assert not any("label-free:" in note for note in other.record["notes"])
    both = dw.select(pool, method="random", pick="k_center", keep=9, encoder=TINY, workers=0, run=str(tmp_path / "k"))
    assert any("pick k_center is label-free: " in note for note in both.record["notes"])


def test_two_workers_give_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pictures(tmp_path / "pool.npz", np.arange(40) % 4)
    a, b = (vectors_of(pool, tmp_path / f"cache{n}", monkeypatch, workers=n) for n in (0, 2))
    assert a.tobytes() == b.tobytes()


def test_goal_images_get_vectors_of_the_pool_s_encoder(tmp_path: Path) -> None:
    pool = pictures(tmp_path / "pool.npz", np.arange(40) % 4)
    with np.load(pool) as found:
        np.savez(tmp_path / "goal.npz", image=found["image"][:6] // 2, label=found["label"][:6])
    given = {"goal": str(tmp_path / "goal.npz"), "keep_near_goal": True, "workers": 0}
    found = dw.score(pool, method="knn_shapley", encoder=TINY, **given, run=str(tmp_path / "run"))
    assert np.ptp(found.scores["knn_shapley"].values_N) > 0


def test_broken_images_are_told_and_train_nobody(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for n in range(12):
        path = tmp_path / "images" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 16 if n != 5 else 12
        image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path)
    (tmp_path / "images" / "a" / "broken.png").write_bytes(b"no image")
    given = {"method": "density", "encoder": "ssl:epochs=1,batch_size=4,width=2", "workers": 0}
    found = dw.score(str(tmp_path / "images"), **given, max_rejected=1.0, run=str(tmp_path / "run"))
    reasons = sorted(found.scores["density"].unscored.values())
    assert len(reasons) == 2 and "shape is (3, 12, 12)" in reasons[1] and "can be decoded" in reasons[0]


def test_a_head_over_vectors_without_labels(tmp_path: Path) -> None:
    pool = pictures(tmp_path / "pool.npz", np.arange(40) % 2)
    (tmp_path / "net.yaml").write_text("epochs: 2\nbatch_size: 20\ndtype: fp32\n")
    given = {"encoder": TINY, "model": "linear", "recipe": str(tmp_path / "net.yaml"), "workers": 0, "device": "cpu"}
    found = dw.score(pool, method="aum", **given, run=str(tmp_path / "run"))
    assert not found.scores["aum"].unscored


def test_recipes_and_wrong_requests(tmp_path: Path) -> None:
    assert recipe_of("some/folder") is None and recipe_of("./ssl") is None
    made = recipe_of("ssl:epochs=3,lr=1e-3,dtype=fp32")
    assert made is not None and (made.epochs, made.lr, made.dtype) == (3, 0.001, "fp32")
    for named, said in (
        ("ssl:epoch=3", "did you mean 'epochs'"),
        ("ssl:epochs=many", "whole number"),
        ("ssl:3", "NAME"),
    ):
        with pytest.raises(RequestError, match=said):
            recipe_of(named)
    rows = [{"text": f"row {n}", "label": n % 2} for n in range(30)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method, more in (("density", {}), ("aum", {"model": "linear"})):
        given = {"task": "classify", "encoder": "ssl", **more, "workers": 0, "run": str(tmp_path / method)}
        with pytest.raises(RequestError, match="is trained on images"):
            dw.score(str(tmp_path / "texts.jsonl"), method=method, **given)


def test_plan_prices_the_training_and_leaves_nothing(tmp_path: Path) -> None:
    pool = pictures(tmp_path / "pool.npz", np.arange(40) % 4)
    given = {"method": "prototypes", "keep": 9, "workers": 0, "device": "cpu"}
    found = {n: dw.plan(pool, **given, encoder=f"ssl:epochs={n},batch_size=20,width=2") for n in (1, 40)}
    seconds = {n: {s.name: s.cpu_seconds or 0.0 for s in plan.stages} for n, plan in found.items()}
    assert seconds[40]["train the encoder"] > 8 * seconds[1]["train the encoder"] > 0
    assert seconds[1]["the encoder's pass"] > 0 and not any("encoder" in note for note in found[1].notes)
    assert not list((tmp_path / "cache").rglob("*.npy"))
