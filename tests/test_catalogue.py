"""Every method of the catalogue through the verb itself, on a small pool, with an encoder and with a learner."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import dataworth as dw
from dataworth import plugins
from dataworth.errors import RequestError

WORDS = "red blue green stone river cloud bread house light music".split()
OF_TEXT = ("dsir", "ncd", "compression", "column:quality", "response_length")
OF_VECTORS = ("prototypes", "density")
OF_LEARNER = ("ifd", "memorised", "perplexity", "entropy", "prototypes", "density")
OF_CLASSES = ("moderate", "pvi", "knn_shapley")
OF_NETS = ("el2n", "grand", "forgetting", "aum", "cartography", "dual", "least_confidence", "margin")
OF_ITS_OWN_NETS = ("entropy", "aum_threshold")
CLASS_PICKS = ("balanced", "craig", "dual_beta")
OWN_TESTS = ("random", "length", "bm25", "loss", "rds", "less")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("catalogue"), np.random.default_rng(0)

    def text(n: int) -> str:
        return " ".join(rng.choice(WORDS[: 4 + n % 7], size=int(rng.integers(3, 9))))

    rows = [{"prompt": f"say {text(n)}", "completion": text(n), "quality": n % 13} for n in range(60)]
    rows[7] = {**rows[3], "quality": None}
    write(folder / "pool.jsonl", rows)
    write(folder / "goal.jsonl", [{"prompt": f"tell {text(2)}", "completion": text(2)} for _ in range(6)])
    center = rng.normal(0, 0.7, (3, 8))
    label = np.arange(45) % 3
    np.savez(folder / "vectors.npz", vector=center[label] + rng.normal(size=(45, 8)), label=label)
    write(folder / "vector-goal.jsonl", [{"vector": (center[k % 3] + 0.1).tolist(), "label": k % 3} for k in range(9)])
    return folder


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def encoder(place: Path) -> str:
    """A static encoder of ten words, made here."""
    model2vec = pytest.importorskip("model2vec")
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "[PAD]": 1, **{word: n for n, word in enumerate(["say", *WORDS], 2)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(1).normal(size=(len(vocabulary), 12)).astype(np.float32)
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(str(place / "encoder"))
    return str(place / "encoder")


def kept(place: Path, tmp_path: Path, **more: object) -> dw.SelectResult:
    """A selection of 9 rows, written, replayed, and accounted for."""
    pool = more.pop("pool", place / "pool.jsonl")
    out = tmp_path / f"out{Path(str(pool)).suffix}"
    found = dw.select(str(pool), keep=9, workers=0, run=str(tmp_path / "run"), out=str(out), **more)
    assert len(found.ids) == 9
    assert sum(found.selection.counts().values()) == len(found.selection.kept_N)
    assert dw.replay(tmp_path / "run").identical
    weights = pq.read_table(f"{out}.dataworth/weights.parquet").column("weight").to_numpy()
    np.testing.assert_array_equal(weights, found.selection.weights)
    return found


def test_every_method_of_the_catalogue_is_run_here_or_has_tests_of_its_own() -> None:
    run = {*OF_TEXT, *OF_VECTORS, *OF_LEARNER, *OF_CLASSES, *OF_NETS, *OF_ITS_OWN_NETS, *OWN_TESTS}
    assert set(plugins.SCORES) == {name for name in run if ":" not in name}


@pytest.mark.parametrize("method", OF_TEXT)
def test_scores_that_need_no_model(place: Path, tmp_path: Path, method: str) -> None:
    found = kept(place, tmp_path, goal=str(place / "goal.jsonl"), method=method)
    assert found.method == method


@pytest.mark.parametrize("method", OF_VECTORS)
def test_scores_of_vectors_by_an_encoder(place: Path, tmp_path: Path, encoder: str, method: str) -> None:
    found = kept(place, tmp_path, encoder=encoder, method=method)
    assert np.ptp(found.scored.values_N) > 0


@pytest.mark.parametrize("pick", sorted(set(plugins.PICKS) - {"top_k", "random", "quota", *CLASS_PICKS}))
def test_picks(place: Path, tmp_path: Path, encoder: str, pick: str) -> None:
    above = {"option": ("above=5",)} if pick == "threshold" else {}
    method = {"method": "column:quality"} if "score" in plugins.load("picks", pick).needs else {}
    found = kept(place, tmp_path, encoder=encoder, pick=pick, **method, **above)
    assert found.pick == pick
    if pick in ("lightweight", "sensitivity"):
        assert np.ptp(found.selection.weights) > 0


@pytest.mark.parametrize("method", OF_CLASSES)
def test_scores_of_rows_with_a_class(place: Path, tmp_path: Path, method: str) -> None:
    pool, goal = place / "vectors.npz", str(place / "vector-goal.jsonl")
    found = kept(place, tmp_path, pool=pool, goal=goal if method == "knn_shapley" else None, method=method)
    assert not found.scored.unscored


@pytest.fixture
def trained(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A small classifier of the vectors, trained once for the module."""
    pytest.importorskip("torch")
    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cache"))
    (place / "nets.yaml").write_text("epochs: 12\nbatch_size: 9\nlr: 0.02\nwidth: 2\ndtype: fp32\n")
    return {
        "pool": place / "vectors.npz",
        "model": "mlp",
        "recipe": str(place / "nets.yaml"),
        "option": ("nets=2",),
        "device": "cpu",
    }


@pytest.mark.lm
@pytest.mark.parametrize("method", [*OF_NETS, *OF_ITS_OWN_NETS])
def test_scores_of_trained_nets(place: Path, tmp_path: Path, trained: dict[str, object], method: str) -> None:
    given = {**trained, "option": ()} if method in OF_ITS_OWN_NETS else trained
    found = kept(place, tmp_path, method=method, **given)
    assert found.record["learner"]["model"] == "mlp" and not found.scored.unscored
    assert "learner" in str(dw.view(tmp_path / "run").to_dict())


@pytest.mark.lm
def test_values_belong_to_rows_however_these_are_ordered(
    place: Path, tmp_path: Path, trained: dict[str, object]
) -> None:
    with np.load(place / "vectors.npz") as found:
        arrays = dict(found)
    np.savez(tmp_path / "turned.npz", **{name: array[::-1] for name, array in arrays.items()})
    one = kept(place, tmp_path, method="aum", **trained)
    other = dw.score(
        **{**trained, "pool": str(tmp_path / "turned.npz")}, method="aum", workers=0, run=str(tmp_path / "t")
    )
    np.testing.assert_array_equal(other.scores["aum"].values_N[::-1], one.scored.values_N)


@pytest.mark.lm
def test_a_net_that_fails_is_no_silent_loss_and_is_tried_again(
    place: Path, tmp_path: Path, trained: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataworth.learners.classifier import Classifier

    whole = Classifier.gradient_norms

    def breaks(self: Classifier, rows: object) -> object:
        if self.recipe.seed == 1:
            raise RuntimeError("out of memory")
        return whole(self, rows)

    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "cache"))
    given = {**trained, "pool": str(trained["pool"]), "method": "grand", "workers": 0, "run": str(tmp_path / "run")}
    with monkeypatch.context() as broken:
        broken.setattr(Classifier, "gradient_norms", breaks)
        with pytest.raises(RequestError, match="net of seed 1 can't be trained"):
            dw.score(**given)
    assert len(dw.score(**given).scores["grand"].values_N) == 45


@pytest.mark.lm
def test_rows_with_a_class_have_no_token_budget(tmp_path: Path, trained: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="rows with a class have no tokens"):
        dw.select(**{**trained, "pool": str(trained["pool"])}, method="aum", keep="10tok", run=str(tmp_path / "run"))


def test_another_seed_makes_other_clusters_in_one_session(place: Path) -> None:
    from dataclasses import replace

    from dataworth import artefacts, config
    from dataworth.session import open_session

    request = config.build(config.SelectRequest, {"pool": str(place / "vectors.npz"), "workers": 0})
    with open_session(request, None) as session:
        found = []
        for seed in range(4):
            session.request = replace(request, seed=seed)
            found.append(artefacts.resolve_once(session, "clusters").cosine_N.tobytes())
    assert len(set(found)) > 1


def test_there_are_as_many_clusters_as_classes_or_as_the_square_root_of_the_rows(place: Path, encoder: str) -> None:
    from dataworth import artefacts, config
    from dataworth.options import GeometryOptions
    from dataworth.session import open_session

    found = {}
    for pool, asked in (("vectors.npz", 0), ("vectors.npz", 5), ("pool.jsonl", 0)):
        named = {"encoder": encoder} if pool == "pool.jsonl" else {}
        request = config.build(config.SelectRequest, {"pool": str(place / pool), "workers": 0, **named})
        with open_session(request, None) as session:
            session.geometry = GeometryOptions(clusters=asked)
            found[pool, asked] = len(np.unique(artefacts.clusters(session).label_N))
    assert found == {("vectors.npz", 0): 3, ("vectors.npz", 5): 5, ("pool.jsonl", 0): 8}


@pytest.mark.lm
def test_two_workers_train_the_same_nets(place: Path, tmp_path: Path, trained: dict[str, object]) -> None:
    one = kept(place, tmp_path, method="aum", **trained)
    again = dw.score(**{**trained, "pool": str(trained["pool"])}, method="aum", workers=2, run=str(tmp_path / "two"))
    np.testing.assert_array_equal(again.scores["aum"].values_N, one.scored.values_N)


def test_a_recording_of_ones_own_loop_stands_in_for_a_training(place: Path, tmp_path: Path) -> None:
    from dataworth.dynamics import Recorder, quantities

    logits, label = np.random.default_rng(0).normal(size=(3, 45, 3)), np.arange(45) % 3
    recorder = Recorder(range(45), 3)
    for epoch in range(3):
        recorder.record(epoch, range(45), logits[epoch], label)
    recorder.save(tmp_path / "dynamics.npz")
    found = kept(place, tmp_path, pool=place / "vectors.npz", method="aum", dynamics=(str(tmp_path / "dynamics.npz"),))
    margin = np.mean([quantities(logits[e], label)[2] for e in range(3)], axis=0)
    np.testing.assert_allclose(found.scored.values_N, margin, rtol=1e-5)
    given = {"method": "moderate", "pick": "stratified", "dynamics": (str(tmp_path / "dynamics.npz"),)}
    both = dw.select(
        str(place / "vectors.npz"),
        **given,
        option=("cut_by=aum", "cut=9"),
        keep=9,
        workers=0,
        run=str(tmp_path / "cut"),
    )
    cut = both.selection.reason_code_N == both.selection.reasons.index("cut-hardest")
    assert set(np.flatnonzero(cut)) == set(np.argsort(margin, kind="stable")[:9])


@pytest.mark.lm
def test_wrong_labels_have_the_lowest_margins(place: Path, tmp_path: Path, trained: dict[str, object]) -> None:
    rng, true = np.random.default_rng(3), np.arange(45) % 3
    wrong, label = [1, 11, 21, 31, 41], true.copy()
    label[wrong] = (label[wrong] + 1) % 3
    np.savez(tmp_path / "noisy.npz", vector=4 * np.eye(3)[true] + rng.normal(size=(45, 3)), label=label)
    given = {**trained, "pool": tmp_path / "noisy.npz", "model": "linear"}
    worst = kept(place, tmp_path, method="aum", **given)  # low margins are kept: the hard end
    assert len(set(worst.ids) & {row_id(tmp_path / "noisy.npz", n) for n in wrong}) == 5


@pytest.mark.lm
def test_threshold_classes_find_wrong_labels_and_the_threshold_pick_drops_them(
    place: Path, tmp_path: Path, trained: dict[str, object]
) -> None:
    rng, rows = np.random.default_rng(5), 400
    true = rng.integers(0, 4, size=rows)
    wrong = rng.random(rows) < 0.15
    label = np.where(wrong, (true + rng.integers(1, 4, size=rows)) % 4, true)
    np.savez(tmp_path / "noisy.npz", vector=4 * np.eye(6)[true] + rng.normal(size=(rows, 6)), label=label)
    given = {**trained, "pool": str(tmp_path / "noisy.npz"), "model": "linear", "workers": 0}
    asked = {**given, "option": ("above=0",), "keep": "100%", "pick": "threshold", "method": "aum_threshold"}
    found = dw.select(**asked, run=str(tmp_path / "run"))
    flagged = found.scored.values_N <= 0
    assert (~found.selection.kept_N == flagged).all() and 30 < flagged.sum() < 100
    assert wrong[flagged].mean() > 0.8 and flagged[wrong].mean() > 0.8, "chance: 0.15"
    assert any(f"{flagged.sum()} of 400 rows" in note for note in found.record["notes"])
    again = dw.select(**{**asked, "pool": str(tmp_path / "noisy.npz"), "seed": 1}, run=str(tmp_path / "other"))
    assert (again.scored.values_N != found.scored.values_N).any(), "another seed relabels other rows"


@pytest.mark.lm
def test_strata_of_one_score_without_the_hardest_by_another(
    place: Path, tmp_path: Path, trained: dict[str, object]
) -> None:
    both = {**trained, "option": ("nets=2", "cut_by=aum", "cut=20"), "method": "el2n", "pick": "stratified"}
    found = kept(place, tmp_path, **both)
    aum = dw.score(**{**trained, "pool": str(trained["pool"])}, method="aum", workers=0, run=str(tmp_path / "aum"))
    codes = [found.selection.reasons[c] for c in found.selection.reason_code_N]
    lowest = np.argsort(aum.scores["aum"].values_N, kind="stable")[:20].tolist()
    assert {n for n, code in enumerate(codes) if code == "cut-hardest"} == set(lowest)
    pool = str(place / "vectors.npz")
    given = {"method": "moderate", "pick": "stratified", "keep": 9, "workers": 0}
    with pytest.raises(RequestError, match="pick stratified needs --model"):
        dw.select(pool, **given, option=("cut_by=aum",), run=str(tmp_path / "none"))
    with pytest.raises(RequestError, match="option 'nets' is unknown"):
        dw.select(pool, **given, option=("nets=2",), run=str(tmp_path / "score"))
    assert len(dw.select(pool, **given, run=str(tmp_path / "plain")).ids) == 9


def test_a_recording_has_no_threshold_class(place: Path, tmp_path: Path) -> None:
    given = {"method": "aum_threshold", "dynamics": ("mine.npz",), "keep": 9, "run": str(tmp_path / "run")}
    with pytest.raises(RequestError, match="can't read --dynamics"):
        dw.select(str(place / "vectors.npz"), **given)


def row_id(pool: Path, n: int) -> str:
    from dataworth.formats import open_pool

    return open_pool(pool).ids[n]


@pytest.mark.lm
def test_images_are_classified_and_broken_ones_are_told(
    place: Path, tmp_path: Path, trained: dict[str, object]
) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for n in range(30):
        shade = 60 + 130 * (n % 2)
        path = tmp_path / "images" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.normal(shade, 20, (8, 8, 3)).clip(0, 255).astype(np.uint8)).save(path)
    (tmp_path / "images" / "a" / "broken.png").write_bytes(b"no image")
    given = {**trained, "pool": str(tmp_path / "images"), "model": "resnet", "option": ()}
    found = dw.select(**given, method="el2n", keep=9, workers=0, run=str(tmp_path / "run"), out=str(tmp_path / "kept"))
    assert len(found.ids) == 9 and len(list((tmp_path / "kept").rglob("*.png"))) == 9
    assert ["decoded" in why for why in found.scored.unscored.values()] == [True]
    shutil.rmtree(tmp_path / "kept")
    again = dw.select(**given, method="el2n", keep=9, workers=0, run=str(tmp_path / "run"), out=str(tmp_path / "kept"))
    assert again.ids == found.ids and len(list((tmp_path / "kept").rglob("*.png"))) == 9
    with pytest.raises(RequestError, match="--encoder reads texts"):
        dw.select(**given, pick="k_center", encoder=str(tmp_path), keep=9, workers=0, run=str(tmp_path / "texts"))
    near = dw.select(**given, pick="k_center", keep=9, workers=0, run=str(tmp_path / "near"))
    assert len(near.ids) == 9


@pytest.mark.lm
def test_texts_are_classified_behind_an_encoder(
    place: Path, tmp_path: Path, encoder: str, trained: dict[str, object]
) -> None:
    rows = [
        {"text": " ".join(WORDS[(n % 2) * 5 + k] for k in range(n % 3, 4)), "label": "xy"[n % 2]} for n in range(40)
    ]
    write(tmp_path / "texts.jsonl", [{**row, "text": f"{row['text']} {n}"} for n, row in enumerate(rows)])
    given = {**trained, "pool": tmp_path / "texts.jsonl", "model": "linear"}
    found = kept(place, tmp_path, task="classify", encoder=encoder, method="aum", **given)
    assert np.nanmin(found.scored.values_N) > 0, "all of them are learned"


@pytest.mark.parametrize("pick", CLASS_PICKS)
def test_picks_of_rows_with_a_class(place: Path, tmp_path: Path, pick: str, trained: dict[str, object]) -> None:
    given = (
        {**trained, "method": "dual"} if pick == "dual_beta" else {"pool": place / "vectors.npz", "method": "moderate"}
    )
    kept(place, tmp_path, pick=pick, **given)
    with pytest.raises(RequestError, match="needs rows with a class"):
        dw.select(str(place / "pool.jsonl"), pick=pick, method="length", keep=9, run=str(tmp_path / "no"))


@pytest.mark.lm
@pytest.mark.parametrize("method", OF_LEARNER)
def test_scores_by_a_learner(place: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    monkeypatch.setenv("DATAWORTH_CACHE", str(place / "cache"))
    if not (place / "model").is_dir():
        tiny_folder(place / "model", layers=1)
    options = ("threshold=inf",) if method == "ifd" else ()
    kept(place, tmp_path, model=str(place / "model"), method=method, device="cpu", option=options)


@pytest.mark.lm
def test_losses_without_prompts_are_those_of_the_response_behind_one_token(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    from dataworth import artefacts, config
    from dataworth.learners.alone import without_prompt
    from dataworth.recipe import Recipe
    from dataworth.session import open_session
    from dataworth.trial import response_loss

    model = str(tmp_path / "model")
    tiny_folder(tmp_path / "model", layers=1)
    request = config.build(config.SelectRequest, {"pool": str(place / "pool.jsonl"), "model": model, "workers": 0})
    with open_session(request, None) as session:
        alone_N = artefacts.losses_alone(session)
        lead, rows = session.learner.lead, [session.learner.renderer.encode(e) for e in session.pool.examples()]
        given_N = artefacts.losses(session)
        from dataworth.probes.losses import open_losses

        settings = {"model": str(session.learner.source.folder), "recipe": Recipe().to_dict(), "checkpoint": None}
        by_hand, _ = open_losses(settings, "cpu")([r.id for r in rows], [without_prompt(r, lead) for r in rows])
        whole = response_loss(model, Recipe(), None, list(session.pool.examples()))
    np.testing.assert_allclose(alone_N, by_hand["loss_sum"] / by_hand["targets"], rtol=1e-5)
    np.testing.assert_allclose(given_N, whole.sum_Q / whole.targets_Q, rtol=1e-5)
    np.testing.assert_array_equal(by_hand["targets"], whole.targets_Q)


@pytest.mark.lm
def test_a_mask_on_prompts_leaves_no_response_alone(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.learners.tinymodel import tiny_folder

    tiny_folder(tmp_path / "model", layers=1)
    turns = [{"role": "user", "content": "say red"}, {"role": "assistant", "content": "red"}]
    write(tmp_path / "pool.jsonl", [{"messages": turns} for _ in range(20)])
    with pytest.raises(RequestError, match="no response stands alone"):
        dw.select(
            str(tmp_path / "pool.jsonl"),
            model=str(tmp_path / "model"),
            method="ifd",
            mask_like="trl",
            keep=9,
            workers=0,
            run=str(tmp_path / "run"),
        )


def test_a_pick_by_vectors_says_how_many_different_rows_it_has(place: Path, tmp_path: Path, encoder: str) -> None:
    found = kept(place, tmp_path, encoder=encoder, pick="k_center")
    told = found.record["beside"]["diversity"]
    assert told["kept"] > told["random"] > 1 and told["rows"] == len(found.selection.ids)
    assert f"{told['rows']} of its rows count as {told['kept']:.1f} different ones (Vendi)" in found.explain()


def test_methods_without_vectors_say_what_would_make_them(place: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="needs vectors of the rows: expected --model or --encoder"):
        dw.select(str(place / "pool.jsonl"), method="density", keep=9, run=str(tmp_path / "a"))
    with pytest.raises(RequestError, match="pick herding needs vectors"):
        dw.select(str(place / "pool.jsonl"), method="length", pick="herding", keep=9, run=str(tmp_path / "b"))
    with pytest.raises(RequestError, match="is not a folder here"):
        dw.select(str(place / "pool.jsonl"), method="density", encoder="none", keep=9, run=str(tmp_path / "c"))


def test_an_output_may_have_a_colon_in_its_name(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dw.select(str(place / "pool.jsonl"), method="column:quality", keep=9, workers=0, out="a:b.jsonl")
    assert pq.read_table(tmp_path / "a:b.jsonl.dataworth" / "weights.parquet").num_rows == 9


def images(folder: Path, count: int, side: int = 6) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(count)
    for k in range(count):
        at = folder / f"class{k % 2}" / f"{k:03d}.png"
        at.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 256, (side, side, 3)).astype(np.uint8)).save(at)


def test_a_folder_of_images_is_told_by_names_and_classes(place: Path, tmp_path: Path) -> None:
    """What a person gets to look through is file names, and rows that can't be read are told on screen."""
    image = pytest.importorskip("PIL.Image")
    images(tmp_path / "pool", 40)
    for n, side in ((0, 9), (1, 9)):  # the first images are of another size
        image.new("RGB", (side, side)).save(tmp_path / "pool" / f"class{n}" / "000a.png")
    (tmp_path / "pool" / "class0" / "torn.png").write_bytes(b"\x89PNG torn")
    (tmp_path / "recipe.yaml").write_text("epochs: 1\nbatch_size: 8\n")
    more = {"model": "linear", "recipe": str(tmp_path / "recipe.yaml"), "workers": 0, "device": "cpu"}
    out = tmp_path / "kept"
    found = dw.select(
        str(tmp_path / "pool"), method="aum", pick="bottom_k", keep=20, out=str(out), run=str(tmp_path / "run"), **more
    )
    told = pq.read_table(tmp_path / "kept.dataworth" / "reasons.parquet").to_pydict()
    names = {p.relative_to(tmp_path / "pool").as_posix() for p in (tmp_path / "pool").rglob("*.png")}
    assert set(told["file_name"]) == names
    assert all(name.split("/")[0] == label for name, label in zip(told["file_name"], told["label"], strict=True))
    kept = {p.relative_to(out).as_posix() for p in out.rglob("*.png")}
    assert kept == {n for n, k in zip(told["file_name"], told["kept"], strict=True) if k} and len(kept) == 20
    shown = [row["text"].split(", class ") for row in found.record["samples"]["kept"]]
    assert shown and all(name in names and name.split("/")[0] == label for name, label in shown)
    note = next(n for n in found.record["notes"] if "rows have no score" in n)
    assert note.startswith("aum: 3 rows have no score (2 as its shape is (3, 9, 9), the others' (3, 6, 6); 1 as")
    card = (tmp_path / "kept.dataworth" / "card.md").read_text()
    assert "image-classification" in card and "Length in" not in card


def test_methods_and_models_for_other_rows_are_refused_with_those_that_fit(place: Path, tmp_path: Path) -> None:
    pool = str(place / "vectors.npz")
    with pytest.raises(RequestError, match="expected a method of classes, such as --method el2n"):
        dw.select(pool, method="ifd", model="linear", run=str(tmp_path / "a"))
    with pytest.raises(RequestError, match="model 'resnet18' for rows with a class: expected linear, mlp, resnet"):
        dw.plan(pool, method="el2n", model="resnet18", calibrate=False)


def test_goal_images_are_seen_by_the_net_that_was_trained_on_the_pool(place: Path, tmp_path: Path) -> None:
    """A linear net's features are its scaled pixels, so the score is that of these as vectors."""
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 256, (n, 5, 5, 3)).astype(np.uint8) for name, n in (("pool", 40), ("goal", 12))}
    for name, found in pixels.items():
        label = np.arange(len(found)) % 3
        np.savez(tmp_path / f"{name}.npz", image=found, label=label)
        flat = ((found.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 64).reshape(len(found), -1)
        np.savez(tmp_path / f"{name}-flat.npz", vector=flat, label=label)
    (tmp_path / "recipe.yaml").write_text("epochs: 1\nbatch_size: 8\ndtype: fp32\n")
    more = {"model": "linear", "recipe": str(tmp_path / "recipe.yaml"), "workers": 0, "device": "cpu"}
    scores = []
    for kind, given in (("", more), ("-flat", {})):
        found = dw.score(
            str(tmp_path / f"pool{kind}.npz"),
            goal=str(tmp_path / f"goal{kind}.npz"),
            method="knn_shapley",
            run=str(tmp_path / f"run{kind}"),
            **given,
        )
        scores.append(found.scores["knn_shapley"].values_N)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    assert np.ptp(scores[0]) > 0
    portable = dw.select(
        str(tmp_path / "pool.npz"),
        goal=str(tmp_path / "goal.npz"),
        method="knn_shapley",
        keep=10,
        portable=True,
        run=str(tmp_path / "portable"),
        **more,
    )
    shutil.rmtree(tmp_path / "cache")
    assert dw.replay(portable.run).identical


def test_unreadable_images_in_front_leave_the_others_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataworth.classifying._LOOKED_AT", 2)
    images(tmp_path / "pool", 20)
    for n in range(3):
        (tmp_path / "pool" / "class0" / f"-{n}.png").write_bytes(b"\x89PNG torn %d" % n)
    (tmp_path / "recipe.yaml").write_text("epochs: 1\nbatch_size: 8\n")
    more = {"model": "linear", "recipe": str(tmp_path / "recipe.yaml"), "workers": 0, "device": "cpu"}
    found = dw.score(str(tmp_path / "pool"), method="aum", run=str(tmp_path / "run"), **more)
    assert len(found.scores["aum"].unscored) == 3
