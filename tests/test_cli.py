"""The command line: exit codes, JSON purity, config files, what a terminal shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import dataworth
from dataworth import api, cli, config
from dataworth.errors import (
    FingerprintMismatch,
    FormatError,
    MissingExtra,
    NonsenseRefused,
    RequestError,
    Stopped,
)
from dataworth.results import CacheReport, ReplayResult
from dataworth.store.cache import Cache

EXAMPLE = Path(dataworth.__file__).parent / "data" / "example"
POOL, GOAL = str(EXAMPLE / "pool.jsonl"), str(EXAMPLE / "goal.jsonl")


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dataworth.cli", *words], capture_output=True, text=True, cwd=cwd)


def test_select_prints_reasons_and_exits_0(tmp_path: Path) -> None:
    done = run("select", POOL, "--goal", GOAL, "--keep", "5", "-o", "picked.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert "kept 5 of 200 rows" in done.stdout
    assert "dropped, for example" in done.stdout
    assert len((tmp_path / "picked.jsonl").read_text().splitlines()) == 5
    assert "«" in done.stderr, "the preview marks what carries loss"


def test_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    done = run("select", POOL, "--goal", GOAL, "--keep", "5", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["kept"] == 5
    assert done.stdout.count("\n") == 1


def test_without_a_verb_there_is_help_and_a_version(tmp_path: Path) -> None:
    helped, bare, versioned = (run(*words, cwd=tmp_path) for words in (["--help"], [], ["--version"]))
    assert helped.stdout == bare.stdout and "Commands:" in bare.stdout
    assert (bare.returncode, bare.stderr) == (versioned.returncode, versioned.stderr) == (0, "")
    assert versioned.stdout == f"dataworth {metadata.version('dataworth')}\n"


def test_a_config_file_holds_the_flags_and_flags_win(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"goal: {GOAL}\nkeep: 7\n")
    done = run("select", POOL, "--config", "c.yaml", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["kept"] == 7
    done = run("select", POOL, "--config", "c.yaml", "--keep", "6", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["kept"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["select"], "no pool"),
        (["select", "absent.jsonl", "--goal", GOAL], "absent.jsonl"),
        (["select", POOL, "--goal", "absent.jsonl"], "absent.jsonl"),
        (["select", POOL, "--goal", GOAL, "--keep", "lots"], "keep"),
        (["select", POOL, "--goal", GOAL, "--method", "less"], "--model"),
        (["selct"], "select"),
        (["select", "--kep", "3"], "--keep"),
        (["replay", "nowhere"], "nowhere"),
        (["cache"], "exactly one"),
        (["select", POOL, "--goal", GOAL, "--device", "tpu"], "device"),
    ],
)
def test_a_wrong_request_exits_2_with_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_too_many_rejects_exit_3(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text((EXAMPLE / "pool.jsonl").read_text() + "{\n" * 9)
    done = run("select", "p.jsonl", "--goal", GOAL, "--keep", "5", "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 3
    assert (tmp_path / "out.jsonl").exists()


def test_dry_run_prices_and_writes_nothing(tmp_path: Path) -> None:
    done = run("select", POOL, "--goal", GOAL, "--keep", "5", "-o", "picked.jsonl", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert not list(tmp_path.glob("picked*"))
    assert not (tmp_path / "runs").exists()


def test_control_characters_of_data_do_not_reach_the_terminal(tmp_path: Path) -> None:
    rows = [{"prompt": f"\u001b[31mred {i} \u202e bike" + "x" * i, "completion": "\u0007" + "y" * i} for i in range(20)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = run("select", "p.jsonl", "--method", "length", "--keep", "5", cwd=tmp_path)
    assert done.returncode == 0
    assert not {"\u001b", "\u202e", "\u0007"} & set(done.stdout + done.stderr)


def test_replay_exits_0_when_the_ids_are_the_same(tmp_path: Path) -> None:
    run("select", POOL, "--goal", GOAL, "--keep", "5", "--run", "r", cwd=tmp_path)
    done = run("replay", "r", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["identical"] is True


def test_ctrl_c_exits_130_with_the_line_that_resumes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pool.jsonl")  # reading it waits for ever
    words = ["select", "pool.jsonl", "--method", "length", "--run", "r"]
    command = [sys.executable, "-m", "dataworth.cli", *words]

    def listen() -> None:  # a shell's background job, as CI may be, ignores Ctrl-C and hands that down
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, text=True, cwd=tmp_path, preexec_fn=listen) as process:
        try:
            while not (tmp_path / "r" / "lock").exists():
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"dataworth {' '.join(words)}" in error
    assert "Traceback" not in error
    assert not (tmp_path / "r" / "lock").exists()


def test_too_many_rejects_still_print_the_one_json_object(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text((EXAMPLE / "pool.jsonl").read_text() + "{\n" * 9)
    done = run("select", "p.jsonl", "--goal", GOAL, "--keep", "5", "--json", cwd=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stdout)["kept"] == 5


def test_the_recipe_in_force_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("lora_r: 4\n")
    done = run("plan", "--show-recipe", "--recipe", "recipe.yaml", cwd=tmp_path)
    assert "lora_r: 4" in done.stdout
    (tmp_path / "recipe.yaml").write_text("lora_rank: 4\n")
    done = run("plan", "--show-recipe", "--recipe", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "lora_r" in done.stderr


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The entry point in this process: words in; exit code, stdout and stderr out."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run_here(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dataworth", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    yield run_here
    signal.signal(signal.SIGTERM, before)


def failing(error: BaseException) -> Any:
    def raises(*_: Any, **__: Any) -> None:
        raise error

    return raises


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("wrong value; do this"), 2),
        (FormatError("wrong file; do this"), 2),
        (MissingExtra("a model", "torch", "lm"), 2),
        (FingerprintMismatch("mixed; do this"), 2),
        (NonsenseRefused("nothing; do this"), 2),
        (Stopped("stopped; the same command resumes"), 4),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_one_line(
    main: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    monkeypatch.setattr(api, "run_score", failing(error))
    found, out, err = main("score", POOL)
    assert (found, out, err) == (code, "", f"dataworth: {error}\n")


def test_a_bug_is_not_dressed_up_as_a_wrong_request(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "run_score", failing(ZeroDivisionError("a bug")))
    monkeypatch.setattr(sys, "argv", ["dataworth", "score", POOL])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_an_interrupt_says_how_to_go_on_with_words_quoted(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "run_score", failing(KeyboardInterrupt()))
    code, out, err = main("score", POOL, "--run", "my run")
    assert (code, out) == (130, "")
    assert err.startswith("dataworth: interrupted;")
    assert err.endswith(f"dataworth score {POOL} --run 'my run'\n")


def test_words_of_an_exit_of_the_user_s_own_code_are_not_lost(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "run_score", failing(SystemExit("the judge's own complaint")))
    monkeypatch.setattr(sys, "argv", ["dataworth", "score", POOL])
    with pytest.raises(SystemExit, match="the judge's own complaint"):
        cli.main()


def test_a_terminated_command_says_how_to_go_on(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "run_score", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    code, out, err = main("score", POOL)
    assert (code, out) == (143, "")
    assert err == f"dataworth: terminated; the same command resumes: dataworth score {POOL}\n"


def test_messages_with_control_characters_are_shown_without_them(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "run_score", failing(RequestError("file \x1b[31m\u202e is odd")))
    assert main("score", POOL)[2] == "dataworth: file [31m is odd\n"


def test_flags_of_every_type_reach_the_request(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[config.Request] = []

    def look(request: config.Request, progress: Any) -> CacheReport:
        seen.append(request)
        return CacheReport("on disk", {})

    monkeypatch.setattr(api, "run_select", look)
    words = "--map prompt=q completion=a+b --option warmup=8 --option width=512 --max-rejected 0.5 --seed 7 --rewarm"
    assert (
        main("select", "a.jsonl", "b.jsonl", *words.split(), "--workers", "0", "--no-portable", "-o", "x.jsonl")[0] == 0
    )
    (request,) = seen
    assert isinstance(request, config.SelectRequest)
    assert request.pool == ("a.jsonl", "b.jsonl")
    assert request.map == ("prompt=q", "completion=a+b")
    assert request.option == ("warmup=8", "width=512")
    assert (request.max_rejected, request.seed, request.workers) == (0.5, 7, 0)
    assert (request.rewarm, request.portable, request.keep_near_goal) == (True, False, False)
    assert (request.out, request.keep) == ("x.jsonl", "5%")


def test_a_switch_can_be_turned_off_against_the_file(
    main: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(api, "run_select", lambda request, _: seen.append(request) or CacheReport("on disk", {}))
    (tmp_path / "c.yaml").write_text(f"pool: {POOL}\nrewarm: true\nportable: true\nmap: {{prompt: q}}\n")
    assert main("select", "--config", "c.yaml", "--no-rewarm", "--map", "prompt=p")[0] == 0
    assert (seen[0].rewarm, seen[0].portable) == (False, True)
    assert seen[0].map == ("prompt=p",), "a flag replaces what the file has"


def test_a_wrong_key_in_the_file_is_one_line(main: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kep: 5\n")
    code, _, err = main("select", POOL, "--config", "c.yaml")
    assert code == 2
    assert "did you mean 'keep'" in err


def test_a_dry_run_of_several_scores_says_to_name_one(main: Any) -> None:
    code, out, err = main("score", POOL, "--goal", GOAL, "--method", "bm25,length", "--dry-run")
    assert (code, out) == (2, "")
    assert "prices one method" in err


def test_the_cache_is_shown_and_emptied(main: Any) -> None:
    folder = Cache().artefact("tokens", {"x": 1}).folder
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(b"x" * 2048)
    assert main("cache", "--size")[1].splitlines()[-1].split() == ["in", "all", "2.0", "KiB"]
    assert json.loads(main("cache", "--size", "--json")[1]) == {"what": "on disk", "bytes_by_kind": {"tokens": 2048}}
    assert "freed" in main("cache", "--clear")[1]
    assert json.loads(main("cache", "--clear", "--json")[1])["what"] == "freed"
    assert Cache().size() == {}
    assert main("cache", "--size", "--clear")[0] == 2


def test_a_replay_that_differs_prints_its_result_and_exits_2(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    differs = ReplayResult(Path("r"), False, 3, False, ("a",), (), 0.5)
    monkeypatch.setattr(api, "replay", lambda *_, **__: differs)
    code, out, err = main("replay", "r", "--json")
    assert code == 2
    assert json.loads(out)["only_before"] == ["a"]
    assert "did not replay" in err


@pytest.mark.parametrize("name", ["record.json", "finished.json"])
def test_a_damaged_file_of_a_run_is_one_line_and_deleting_it_helps(main: Any, tmp_path: Path, name: str) -> None:
    words = ("select", POOL, "--goal", GOAL, "--keep", "5", "--run", "r", "-o", "picked.jsonl")
    assert main(*words)[0] == 0
    (tmp_path / "r" / name).write_bytes(b'{"content": {')
    for again in (words, ("replay", "r")):
        code, out, err = main(*again)
        assert (code, out) == (2, "")
        assert err.startswith(f"dataworth: r/{name} is damaged") and err.count("\n") == 1 and "delete it" in err
    (tmp_path / "r" / name).unlink()
    assert main(*words)[0] == 0


def test_every_command_says_what_it_does(main: Any) -> None:
    code, out, _ = main("--help")
    assert code == 0
    for name in ("plan", "score", "select", "replay", "demo", "cache"):
        assert name in out
        assert main(name, "--help")[0] == 0


def test_view_tells_a_finished_run_as_text_json_and_one_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("select", POOL, "--goal", GOAL, "--keep", "5", "--run", "r", cwd=tmp_path).returncode == 0
    done = run("view", "r", cwd=tmp_path)
    assert done.returncode == 0
    assert "kept 5 of 200 rows" in done.stdout
    assert "length in characters" in done.stdout
    assert not (tmp_path / "r" / "report.html").exists()
    told = json.loads(run("view", "r", "--html", "--json", cwd=tmp_path).stdout)
    assert told["html"] == "r/report.html"
    assert told["result"]["kept"] == 5
    beside = (tmp_path / "r" / "report.html").read_bytes()
    assert run("view", "--html", "other.html", "r", cwd=tmp_path).returncode == 0
    assert (tmp_path / "other.html").read_bytes() == beside
    assert run("replay", "r", cwd=tmp_path).returncode == 0, "a page beside it leaves a run what it was"


def test_view_of_no_run_is_one_line(tmp_path: Path) -> None:
    done = run("view", "nowhere", "--html", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["view", "r", "--html"], ["view", "r", "--html="]),
        (["view", "--html", "r"], ["view", "--html=", "r"]),
        (["view", "--html", "page.html", "r"], ["view", "--html", "page.html", "r"]),
        (["view", "r", "--html", "--json"], ["view", "r", "--html=", "--json"]),
        (["view", "r", "--html", "PAGE.HTM"], ["view", "r", "--html", "PAGE.HTM"]),
    ],
)
def test_a_page_without_a_name_lies_beside_its_run(words: list[str], read: list[str]) -> None:
    assert cli._spread(words) == read
