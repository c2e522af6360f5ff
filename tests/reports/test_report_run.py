"""A finished run's report: from the folder alone, for every verb; old and unfinished runs say so."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.made_pools import jsonl_file, numbered
from tests.made_proofs import arm, mixed_rows, proof_result, proof_run
from tests.made_reports import HOSTILE, hostile_rows, score_run, select_run

import dataworth as dw
from dataworth.errors import FormatError, RequestError
from dataworth.numerics.ranks import mean_interval
from dataworth.proof.result import ProofResult
from dataworth.proving.subsets import read_reasons
from dataworth.report import Bars, Curve, Dots, Grid, Histogram, Section
from dataworth.results import SampleRow
from dataworth.views import terminal
from dataworth.views.as_json import dump


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def charts(report: object) -> list[object]:
    return [c for s in report.sections for c in s.charts]  # type: ignore[attr-defined]


def section(report: object, heading: str) -> Section:
    return next(s for s in report.sections if s.heading == heading)  # type: ignore[attr-defined]


def test_a_selection_is_reported_without_its_pool(tmp_path: Path) -> None:
    run = select_run(tmp_path, mixed_rows(200), keep=20)
    (tmp_path / "pool.jsonl").unlink()
    report = dw.view(run)
    text = report.explain()
    assert report.claims[0].text == "kept 20 of 200 rows by length and top_k"
    assert "not a proof" in report.claims[0].detail
    assert text.startswith("length -> top_k: kept 20 of 200 rows")
    for words in ("Picks against pool:", "length in characters", "rows by source", "Costs:", "CPU time"):
        assert words in text
    samples = dict(section(report, "Sample rows").samples)
    assert len(samples["kept, for example"]) == len(samples["dropped, for example"]) == 3
    assert all("rank" in r.why for r in samples["kept, for example"])
    assert {type(c) for c in charts(report)} == {Histogram, Bars}
    reasons = section(report, "Why rows were kept or dropped").grids[0].rows
    assert [n for _, n in reasons] == ["20", "180"]


def test_scores_are_reported_without_their_pool(tmp_path: Path) -> None:
    run = score_run(tmp_path)
    (tmp_path / "pool.jsonl").unlink()
    report = dw.view(run)
    assert report.claims[0].text == "40 rows scored by length, random"
    assert [c.axis for c in charts(report)] == ["length score", "random score"]
    assert "rho(length)" in report.explain()


def test_a_proof_is_reported_without_its_pool(tmp_path: Path) -> None:
    run = proof_run(tmp_path, controls=("random", "full", "bm25"), failed={"random, trial 3": "loss is nan"})
    (tmp_path / "pool.jsonl").unlink()
    report = dw.view(run)
    assert [c.text for c in report.claims] == [
        "picked: better than random, at the cost of wikipedia",
        "picked: worse than full",
        "picked: better than bm25, at the cost of wikipedia",
    ]
    assert [c.tone for c in report.claims] == ["mixed", "bad", "mixed"]
    for claim in report.claims:
        assert "2 epochs each; 5 seeds" in claim.detail, "every sentence states its protocol"
        assert "was detectable" in claim.detail
    headings = [s.heading for s in report.sections]
    assert headings == [
        *("Arms", "Worth in random rows", "Protected skills", "Notes", "Subsets against pool", "Sample rows"),
        *("Costs", "What it rests on", "Record", "Registration"),
    ]
    assert "random, trial 3 failed and is left out: loss is nan" in section(report, "Notes").lines
    assert [type(c) for c in charts(report)] == [Dots, Curve, Histogram, Bars]
    assert '"looks"' in section(report, "Registration").raw


def test_charts_show_the_units_own_direction(tmp_path: Path) -> None:
    report = dw.view(proof_run(tmp_path, higher="better", untouched=1.62))
    dots, curve = charts(report)[:2]
    assert isinstance(dots, Dots)
    assert isinstance(curve, Curve)
    assert dots.axis == curve.axis == "accuracy (higher is better)"
    for line in dots.lines:
        assert all(0 < v < 1 for v in line.values), "accuracies, not negated"
        assert line.interval is not None
        assert line.interval[0] < np.mean(line.values) < line.interval[1]
    assert dots.reference == ("untouched model", pytest.approx(0.38))
    assert curve.mean_M[0] < curve.mean_M[-1], "more rows, more accuracy"
    (reading,) = curve.readings
    assert reading.mean == pytest.approx(np.mean(dots.lines[0].values))
    assert np.interp(reading.worth, curve.grid_M, curve.mean_M) == pytest.approx(reading.mean, abs=0.01)


def test_the_curve_is_that_of_the_chains_that_are_whole(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run")
    arms = [replace(a, numbers=a.numbers[1:], costs=a.costs[1:]) if a.name == "random 500" else a for a in made.arms]
    report = dw.view(proof_run(tmp_path, made=replace(made, arms=tuple(arms))))
    curve = next(c for c in charts(report) if isinstance(c, Curve))
    assert (len(curve.chains_CK), len(curve.sizes_K)) == (4, 5)
    by_name = {a.name: a for a in made.arms}
    assert curve.chains_CK[0][0] == by_name["random 125"].costs[1]
    assert curve.mean_M[0] == pytest.approx(np.mean(by_name["random 125"].costs[1:]))


def test_without_a_curve_there_is_none_and_an_arm_without_trials_is_still_listed(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run", controls=("random",), curve=False, protected=())
    made = replace(made, arms=(*made.arms, arm("broken", "baseline", [])))
    report = dw.view(proof_run(tmp_path, made=made))
    assert not [c for c in charts(report) if isinstance(c, Curve)]
    assert [line.name for line in charts(report)[0].lines] == ["picked", "random", "broken"]
    assert "Protected skills" not in [s.heading for s in report.sections]


def test_a_reason_why_nothing_can_be_told_is_in_the_claim(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run", curve=False)
    verdicts = tuple(replace(v, word="cannot tell", reason="too noisy: run more seeds") for v in made.verdicts)
    claim = dw.view(proof_run(tmp_path, made=replace(made, verdicts=verdicts))).claims[0]
    assert claim.text == "picked: cannot tell against random"
    assert claim.detail.startswith("too noisy: run more seeds; gain")
    assert claim.tone == "open"


def test_an_interim_verdict_says_so(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run", curve=False)
    verdicts = tuple(replace(v, word=None, gain=None, detectable=None) for v in made.verdicts)
    claim = dw.view(proof_run(tmp_path, made=replace(made, verdicts=verdicts))).claims[0]
    assert claim.text == "picked: interim against random"
    assert "no gain can be estimated" in claim.detail


def test_several_judged_sets_are_always_shown(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run", curve=False)
    arms = tuple(replace(a, subtasks={"maths": 0.5, "law": 0.25}) for a in made.arms)
    grids = section(dw.view(proof_run(tmp_path, made=replace(made, arms=arms))), "Arms").grids
    assert grids[1].header == ("arm", "law", "maths")
    assert grids[1].rows[0] == ("picked", "0.2500", "0.5000")


def test_a_proof_read_back_tells_its_subjects_in_order(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run", subjects=("zebra", "ant"))
    stored = json.loads(json.dumps(made.to_dict(), sort_keys=True))
    back = ProofResult.from_dict(made.run, stored, {})
    assert list(back.retained) == ["zebra", "ant"]
    assert back.explain() == made.explain()


def test_a_run_and_what_it_wrote_give_the_same_reasons(tmp_path: Path) -> None:
    rows = mixed_rows(200)
    run = select_run(tmp_path / "s", rows, keep=20, out=str(tmp_path / "s" / "picked.jsonl"))
    kept = set(dw.select(str(tmp_path / "s" / "pool.jsonl"), method="length", keep=20, run=str(run)).ids)
    beside, inside = read_reasons(tmp_path / "s" / "picked.jsonl"), read_reasons(run)
    assert beside == inside
    assert {i for i, (k, _) in beside.items() if k} == kept
    assert {why for _, why in beside.values()} == {
        "kept: among the highest by length within the budget",
        "dropped: past the cut, towards the lowest by length",
    }
    assert read_reasons(tmp_path / "s" / "pool.jsonl") == {}, "a file without a sidecar tells nothing"


def test_reasons_of_another_tool_are_none_and_damaged_ones_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine.jsonl.dataworth"
    folder.mkdir()
    pq.write_table(pa.table({"id": ["a"], "mine": [1]}), folder / "reasons.parquet")
    assert read_reasons(tmp_path / "mine.jsonl") == {}
    (folder / "reasons.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(FormatError, match=r"reasons\.parquet can't be read"):
        read_reasons(tmp_path / "mine.jsonl")


def test_what_was_lost_on_the_way_in_is_told(tmp_path: Path) -> None:
    rows = [*numbered(60), numbered(1)[0]]
    pool = jsonl_file(tmp_path / "pool.jsonl", rows)
    with pool.open("a") as file:
        file.write("{ no row\n")
    with pytest.warns(UserWarning, match="1 of 62 rows"):
        run = dw.select(str(pool), method="length", keep=5, run=str(tmp_path / "run")).run
    line = "The pool has 61 readable rows; 1 could not be read (rejected.jsonl); 1 of them copy an earlier one."
    assert line in dw.view(run).explain()


def test_a_terminal_gets_no_control_character_of_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in (select_run(tmp_path, pick="quota"), proof_run(tmp_path / "p", hostile_rows(), subjects=HOSTILE[:4])):
        terminal.show(dw.view(run))
        text = capsys.readouterr().out
        assert "alert(1)" in text
        assert all(c in "\n\t" or c.isprintable() for c in text)


def test_drawn_samples_are_rows_of_the_subset_and_of_the_rest(tmp_path: Path) -> None:
    run = proof_run(tmp_path, curve=False)
    record = json.loads((run / "record.json").read_text())["content"]
    halves = record["samples"]["picked"]
    assert len(halves["kept"]) == len(halves["dropped"]) == 3
    assert {r["id"] for r in halves["kept"]}.isdisjoint(r["id"] for r in halves["dropped"])
    again = proof_run(tmp_path / "again", curve=False)
    assert json.loads((again / "record.json").read_text())["content"]["samples"] == record["samples"]
    shown = [r.id for _, rows in section(dw.view(run), "Sample rows").samples for r in rows]
    assert shown == [r["id"] for half in ("kept", "dropped") for r in halves[half]]


def test_runs_from_before_say_what_was_not_recorded(tmp_path: Path) -> None:
    run = proof_run(tmp_path, curve=False)
    record = json.loads((run / "record.json").read_text())
    for key in ("composition", "samples"):
        del record["content"][key]
    (run / "record.json").write_text(json.dumps(record))
    (run / "finished.json").write_text("{}")
    text = dw.view(run).explain()
    assert text.count("not recorded") == 2
    assert dw.view(run).to_dict()["composition"] is None


def test_an_unfinished_proof_says_what_to_do(tmp_path: Path) -> None:
    run = proof_run(tmp_path, curve=False)
    (run / "finished.json").unlink()
    assert dw.view(run).claims, "what was stored of a proof whose failed trials may be mended can be looked at"
    (run / "record.json").unlink()
    with pytest.raises(RequestError, match=r"unfinished proof.*give its prove command again") as caught:
        dw.view(run)
    assert "\n" not in str(caught.value)
    done = select_run(tmp_path / "s")
    (done / "finished.json").unlink()
    with pytest.raises(RequestError, match="no finished select run"):
        dw.view(done)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no config"):
        dw.view(tmp_path)
    for n, name in enumerate(("b-old", "a-new")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("verb: demo\n")
        os.utime(tmp_path / "runs" / name / "config.yaml", (n, n))
    with pytest.raises(RequestError, match=r"holds 2 runs: expected one of them; the newest is .*a-new$"):
        dw.view(tmp_path / "runs")
    for name, text in (("configs", b"lr: 1\n"), ("bytes", b"\xff\xfe")):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "config.yaml").write_bytes(text)
    (tmp_path / "runs" / "gone").mkdir()
    (tmp_path / "runs" / "gone" / "config.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="holds 2 runs"):
        dw.view(tmp_path / "runs")
    (tmp_path / "config.yaml").write_text("verb: demo\n")
    with pytest.raises(RequestError, match="expected one of select, score, prove"):
        dw.view(tmp_path)


def test_the_whole_report_is_one_json_object(tmp_path: Path) -> None:
    for run in (select_run(tmp_path), score_run(tmp_path), proof_run(tmp_path / "p")):
        told = json.loads(dump(dw.view(run)))
        assert told["verb"] in ("select", "score", "prove")
        assert told["run"] == str(run)
        assert set(told) == {
            *("verb", "run", "result", "composition", "samples", "costs", "machine", "command", "registration"),
            *("record", "html"),
        }
        assert told["record"]["pool"]["fingerprint"]
        assert told["html"] is None


def test_a_page_beside_a_run_leaves_it_finished(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = select_run(tmp_path, mixed_rows(50), keep=5)
    report = dw.view(run, html=True)
    assert report.html == run / "report.html"
    assert report.explain().endswith(f"report: {run / 'report.html'}")
    (run / "report.html").write_text("another")
    assert dw.view(run).claims == report.claims
    elsewhere = dw.view(run, html=tmp_path / "new" / "page.html").html
    assert elsewhere is not None
    assert elsewhere.read_text().startswith("<!doctype html>")


def test_a_section_in_words_has_its_tables_and_rows() -> None:
    rows = (SampleRow("a", "text", None, "why"), SampleRow("b", "more", None, ""))
    told = Section("Head", ("line",), grids=(Grid(("a",), (("1",),), "caption"),), samples=(("group", rows),))
    assert told.explain().splitlines() == [
        *("Head:", "line", "caption", "a", "-", "1", "group:", "  - text", "      why", "  - more"),
    ]


def test_long_lists_of_the_record_are_cut_and_counted(tmp_path: Path) -> None:
    run = select_run(tmp_path, numbered(30), keep=3)
    record = json.loads((run / "record.json").read_text())
    record["content"]["warmup"] = {"ids": [f"id{n}" for n in range(1000)]}
    (run / "record.json").write_text(json.dumps(record))
    (run / "finished.json").write_text("{}")
    raw = section(dw.view(run), "Record").raw
    assert "id19" in raw
    assert "id20" not in raw
    assert "and 980 more in the run folder" in raw


def test_a_protected_skill_names_its_interval_and_whether_it_is_lost(tmp_path: Path) -> None:
    made = proof_result(tmp_path / "run", curve=False)
    lost = mean_interval([0.1, 0.11, 0.12], level=0.9)
    kept = replace(made.protected[0], cost=lost, broken=True)
    grid = section(dw.view(proof_run(tmp_path, made=replace(made, protected=(kept,)))), "Protected skills").grids[0]
    assert grid.header[3] == "90 % interval"
    assert grid.rows[0] == (
        *("wikipedia", "picked", "0.110", f"{lost.low:.3f} .. {lost.high:.3f}", "0.02", "loses more than the margin"),
    )


def test_subsets_given_as_files_tell_their_samples_why(tmp_path: Path) -> None:
    rows = mixed_rows(60)
    folder = tmp_path / "s"
    pool = jsonl_file(folder / "pool.jsonl", rows)
    out = folder / "picked.jsonl"
    dw.select(str(pool), method="length", keep="100%", out=str(out), run=str(folder / "all"))
    run = proof_run(tmp_path / "p", rows, curve=False, subset=(str(out),))
    halves = json.loads((run / "record.json").read_text())["content"]["samples"]["picked"]
    assert {r["why"] for r in halves["kept"]} == {"kept: among the highest by length within the budget"}


def image_run(folder: Path, labels: list[str], shape: tuple[int, ...] = (4, 4), **fields: object) -> Path:
    rng = np.random.default_rng(0)
    np.savez(folder / "pool.npz", x=rng.integers(0, 256, (len(labels), *shape)).astype(np.uint8), y=labels)
    told = {"method": "random", "keep": 12, "workers": 0, "device": "cpu", "run": str(folder / "run"), **fields}
    return dw.select(str(folder / "pool.npz"), **told).run  # type: ignore[arg-type]


def test_sample_rows_that_are_images_have_pictures_on_the_page_alone(tmp_path: Path) -> None:
    run = image_run(tmp_path, ["cat", "dog"] * 30)
    (tmp_path / "pool.npz").unlink()
    report = dw.view(run)
    found = section(report, "Sample rows")
    rows = [r for _, some in found.samples for r in some]
    assert set(found.pictures) == {r.id for r in rows}
    assert all(png.startswith(b"\x89PNG") for png in found.pictures.values())
    assert all(re.fullmatch(r"row \d+ of pool.npz \(image of shape \(4, 4\), class (cat|dog)\)", r.text) for r in rows)
    assert len(report.explain()) < 5000 and "PNG" not in dump(report)


def test_vectors_and_texts_have_no_pictures(tmp_path: Path) -> None:
    run = image_run(tmp_path, ["cat", "dog"] * 30, (5,))
    assert not (run / "pictures.parquet").exists()
    found = section(dw.view(run), "Sample rows")
    assert found.pictures == {} and "vector of shape (5,), class" in found.samples[0][1][0].text


def test_images_of_a_folder_are_called_by_their_names(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for n in range(20):
        place = tmp_path / "images" / f"c{n % 2}" / f"{n:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.new("L", (9, 9), n).save(place)
    run = dw.select(str(tmp_path / "images"), method="random", keep=5, run=str(tmp_path / "run")).run
    found = section(dw.view(run), "Sample rows")
    assert re.fullmatch(r"c\d/\d\d\.png, class c\d", found.samples[0][1][0].text)
    assert len(found.pictures) == 6


def test_classes_that_are_shifted_are_named_with_what_balances_them(tmp_path: Path) -> None:
    """Rows are scored by a column that ranks one class above the other."""
    labels = ["cat"] * 30 + ["dog"] * 30
    np.savez(tmp_path / "scored.npz", x=np.eye(60, 4), y=labels, s=np.arange(60))

    def lines(**fields: object) -> str:
        told = {"method": "column:s", "keep": 12, "workers": 0, "device": "cpu", **fields}
        run = dw.select(str(tmp_path / "scored.npz"), run=str(tmp_path / f"run{len(told)}{fields}"[:80]), **told).run  # type: ignore[arg-type]
        return " ".join(section(dw.view(run), "Picks against pool").lines)

    shifted = lines()
    assert (
        "The classes of picks are shifted against the pool's: 50.0 % of the rows would have to be of others" in shifted
    )
    assert "Lost most: class cat (50.0 % to 0.0 %); gained most: class dog (50.0 % to 100.0 %)" in shifted
    assert shifted.endswith("to keep each class's share: --pick balanced --option share=1.")
    assert "shifted" not in lines(pick="balanced", option=("share=1",))
    easy = lines(pick="bottom_k")
    assert "shifted" in easy and "balanced" not in easy, "it would keep the other end"
