"""Real processes: rows that raise, kill, hang; a killed worker, a killed driver, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from engine_toys import artefact_at, row_ids, value

from dataworth.engines import LocalEngine
from dataworth.errors import DataworthError, MissingExtra, NonsenseRefused, RequestError
from dataworth.store import digests

IDS = row_ids(40)
GOOD = [i for i in IDS if not i.endswith("0")]


def run(root, workers, config=None, **engine):
    shard_rows = engine.pop("shard_rows", 16)
    return LocalEngine(workers, **engine).run(
        artefact_at(root), IDS, runner="engine_toys:make", config=config or {}, shard_rows=shard_rows
    )


def assert_all_but(root, bad):
    table = artefact_at(root).table(IDS, verify=True)
    good = [i for i in GOOD if i not in bad]
    assert table.column("wide")[:, 0].tolist() == [value(i) for i in good]
    assert [r.tolist() for r in table.ragged("ragged")] == [[value(i)] * int(i[0], 16) for i in good]
    assert {i for i, r in table.unscored.items() if r.startswith("quarantined: ")} == set(bad)
    return table.unscored


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_stores_every_row_once_and_a_second_run_does_nothing(tmp_path, workers):
    seen = []
    engine = LocalEngine(workers)
    asked = dict(runner="engine_toys:make", config={}, payload=lambda ids: [i[::-1] for i in ids], shard_rows=16)
    report = engine.run(artefact_at(tmp_path), IDS, progress=lambda *p: seen.append(p), **asked)
    assert (report.rows, report.deaths, report.quarantined) == (40, 0, {})
    assert seen[0] == (0, 40) and seen[-1] == (40, 40) and sorted(seen) == seen
    assert_all_but(tmp_path, [])
    assert engine.run(artefact_at(tmp_path), IDS, **asked).rows == 0


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_row_that_raises_is_quarantined_with_one_line(tmp_path, workers):
    report = run(tmp_path, workers, {"raise": [GOOD[3], GOOD[20]]})
    assert set(report.quarantined) == {GOOD[3], GOOD[20]} and report.deaths == 0
    reasons = assert_all_but(tmp_path, [GOOD[3], GOOD[20]])
    assert reasons[GOOD[3]] == f"quarantined: ValueError: bad row {GOOD[3][:4]}"


def test_a_row_that_kills_its_process_is_quarantined_and_not_tried_again(tmp_path):
    report = run(tmp_path, 2, {"die": [GOOD[3]]}, retries=1)
    assert report.quarantined == {GOOD[3]: "quarantined: its process died (SIGKILL)"}
    assert report.deaths <= 2 + 3 + 2  # its shard twice, three halvings, the row alone twice
    assert_all_but(tmp_path, [GOOD[3]])
    assert run(tmp_path, 2, {"die": [GOOD[3]]}).deaths == 0
    again = LocalEngine(0).run(artefact_at(tmp_path), IDS, runner="engine_toys:make", config={}, retry_unscored=True)
    assert again.quarantined == {}
    assert_all_but(tmp_path, [])


@pytest.mark.parametrize(("ill", "limits"), [("hang", {"hang_s": 0.8}), ("stick", {"heartbeat_s": 0.15})])
def test_a_row_that_hangs_is_quarantined(tmp_path, ill, limits):
    report = run(tmp_path, 2, {ill: [GOOD[3]]}, retries=1, shard_rows=2, **limits)
    assert "its process hung" in report.quarantined[GOOD[3]]
    assert_all_but(tmp_path, [GOOD[3]])


def test_out_of_memory_splits_the_shard_and_loses_nothing(tmp_path):
    assert run(tmp_path, 1, {"memory": 5}).quarantined == {}
    assert_all_but(tmp_path, [])


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_about_the_request_and_about_everything_end_the_run(tmp_path, workers):
    with pytest.raises(NonsenseRefused, match="all features are zero"):
        run(tmp_path, workers, {"refuse": IDS})
    with pytest.raises(DataworthError, match="nothing worked: 8 rows"):
        run(tmp_path, workers, {"raise": IDS})
    with pytest.raises(RequestError, match="runner 'engine_toys:nope'"):
        LocalEngine(workers).run(artefact_at(tmp_path), IDS, runner="engine_toys:nope", config={})
    assert artefact_at(tmp_path).missing(IDS) == IDS
    assert psutil.Process().children() == []


def test_an_error_comes_back_as_its_class_even_if_it_is_built_from_parts():
    from dataworth.engines.supervisor import _same_error

    error = _same_error("MissingExtra", "vectors needs the package 'torch'")
    assert isinstance(error, MissingExtra) and str(error) == "vectors needs the package 'torch'"
    assert type(_same_error("SomeoneElses", "x")) is DataworthError


def test_workers_that_die_while_starting_end_the_run(tmp_path):
    with pytest.raises(DataworthError, match="died while starting"):
        run(tmp_path, 2, {"die_at_start": True})


def test_two_runs_on_one_artefact_are_refused(tmp_path):
    with artefact_at(tmp_path).lock, pytest.raises(RequestError, match=f"process {os.getpid()}"):
        run(tmp_path, 0)


DRIVER = """
import sys
from engine_toys import artefact_at, row_ids
from dataworth.engines import LocalEngine
from pathlib import Path
artefact, engine = artefact_at(Path(sys.argv[1])), LocalEngine(2)
engine.run(artefact, row_ids(40), runner="engine_toys:make", config={"sleep": float(sys.argv[2])}, shard_rows=4)
"""


def start_driver(root, sleep, then=""):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DRIVER + then, str(root), str(sleep)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, preexec_fn=listen_to_ctrl_c, **pipes)


def listen_to_ctrl_c():
    """A shell's background job, as CI may be, ignores SIGINT and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def workers_of(driver, at_least=2):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = psutil.Process(driver.pid).children()
        if len(found) >= at_least:
            return found
        time.sleep(0.02)
    raise AssertionError("no workers came")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_ends_leaves_no_orphan_and_resumes_to_the_same_bytes(tmp_path, sent):
    driver = start_driver(tmp_path / "a", 0.1)
    workers = workers_of(driver)
    time.sleep(0.4)
    driver.send_signal(sent)
    _, stderr = driver.communicate(timeout=10)
    assert driver.returncode == -sent
    assert (b"KeyboardInterrupt" in stderr) == (sent == signal.SIGINT)
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    run(tmp_path / "a", 1, shard_rows=4)
    run(tmp_path / "b", 0, shard_rows=4)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_killed_worker_costs_nothing(tmp_path):
    driver = start_driver(tmp_path / "a", 0.1)
    for worker in workers_of(driver):
        worker.kill()
    assert driver.wait(timeout=20) == 0
    run(tmp_path / "b", 0, shard_rows=4)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    driver.communicate()


def seen_by(engine, root, config=None, rows=2):
    """What the workers of a run saw, one dict per shard of one row."""
    artefact = artefact_at(root)
    engine.run(artefact, IDS[:rows], runner="engine_surroundings:look", config=config or {}, shard_rows=1)
    return [json.loads(bytes(row).rstrip(b"\0")) for row in artefact.table(IDS[:rows]).column("seen")]


def test_workers_get_their_devices_and_one_thread(tmp_path):
    with LocalEngine(1, ["cpu"]) as engine:
        (seen,) = seen_by(engine, tmp_path, rows=1)
    assert (seen["device"], seen["OMP_NUM_THREADS"], seen["stdout_is_stderr"]) == ("cpu", "1", True)


def test_workers_stay_between_runs_without_the_last_runs_model(tmp_path):
    with LocalEngine(1) as engine:
        first, second = (seen_by(engine, tmp_path / name, {"name": name}, rows=1)[0] for name in "ab")
        assert first["pid"] == second["pid"] and (first["name"], second["name"]) == ("a", "b")
        assert second["models_before"] == []
        spent = engine.worker_seconds()
        assert 0 < spent and psutil.Process(first["pid"]).is_running()
    assert psutil.Process().children() == [] and engine.worker_seconds() == 0
    (third,) = seen_by(engine, tmp_path / "c", rows=1)
    assert third["pid"] != first["pid"]
    del engine
    assert psutil.Process().children() == []


def test_a_short_run_uses_as_many_workers_as_it_has_shards(tmp_path):
    with LocalEngine(2) as engine:
        (seen,) = seen_by(engine, tmp_path / "a", rows=1)
        assert [c.pid for c in psutil.Process().children()] == [seen["pid"]]


def test_a_worker_that_dies_between_runs_is_replaced_quietly(tmp_path):
    with LocalEngine(1) as engine:
        (before,) = seen_by(engine, tmp_path / "a", rows=1)
        psutil.Process(before["pid"]).kill()
        time.sleep(0.1)
        report = engine.run(artefact_at(tmp_path / "b"), IDS, runner="engine_toys:make", config={}, shard_rows=16)
        assert report.deaths == 0
    assert_all_but(tmp_path / "b", [])


@pytest.mark.parametrize("ill", ["refuse", "late"])
def test_a_failed_run_ends_its_workers_and_the_next_one_gets_new_ones(tmp_path, ill):
    with LocalEngine(2) as engine:
        (before,) = seen_by(engine, tmp_path / "a", rows=1)

        def payload(ids):
            if ill == "late":
                raise KeyboardInterrupt
            return None

        config = {"refuse": IDS[:1]} if ill == "refuse" else {}
        with pytest.raises((NonsenseRefused, KeyboardInterrupt)):
            engine.run(artefact_at(tmp_path / "b"), IDS, runner="engine_toys:make", config=config, payload=payload)
        assert psutil.Process().children() == []
        (after,) = seen_by(engine, tmp_path / "c", rows=1)
        assert before["pid"] != after["pid"]


def test_a_worker_still_loading_when_the_run_ends_serves_the_next_one(tmp_path):
    with LocalEngine(2) as engine:
        for name, runner in (("a", "one_fast"), ("b", "make")):
            asked = dict(runner=f"engine_toys:{runner}", config={"fast": str(tmp_path / "fast"), "sleep": 0.1})
            report = engine.run(artefact_at(tmp_path / name), IDS, shard_rows=20, **asked)
            assert report.deaths == 0
            assert_all_but(tmp_path / name, [])
            assert len(psutil.Process().children()) == 2


def test_a_resting_worker_ends_with_its_driver(tmp_path):
    driver = start_driver(tmp_path, 0, then="import time; print(flush=True); time.sleep(60)")
    assert driver.stdout.readline()
    workers = workers_of(driver)
    time.sleep(1.2)
    driver.kill()
    driver.communicate(timeout=10)
    assert psutil.wait_procs(workers, timeout=5)[1] == []
