"""A trainer of the user's own without a proof around it: what it may be, what it is given, how it fails and ends."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dataworth.config import ProveRequest
from dataworth.errors import NonsenseRefused, RequestError
from dataworth.formats import open_pool
from dataworth.judges.trained import weights_in
from dataworth.proving.trainers import (
    Metric,
    TrainerFailed,
    UserTrainer,
    environment_of,
    seconds_of,
    spec_of,
    trainer_of,
    write_rows,
)
from dataworth.recipe import Recipe

PYTHON = shlex.quote(sys.executable)
COMMAND = "python train.py --data {data} --seed {seed} --out {out}"


def command(tmp_path: Path, code: str, places: str = "{data} {seed} {out}") -> str:
    path = tmp_path / "train it.py"
    path.write_text("import json, os, pathlib, sys, time\ndata, seed, out = sys.argv[1:4]\n" + code)
    return f"{PYTHON} {shlex.quote(str(path))} {places}"


def trained(trainer: UserTrainer, folder: Path, **given: Any) -> Path:
    folder.mkdir(exist_ok=True)
    data = folder / "data.jsonl"
    data.write_text("{}\n")
    trainer.train(folder, {"data": str(data), "seed": 3, **given}, os.environ)
    return folder / "out"


SCORE = Metric("score")
WRITES = "open(out + '/metrics.json', 'w').write(json.dumps({'score': int(seed)}))"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("train.sh", "expected a command such as 'python train.py"),
        ("python train.py {data} {seed}", r"lacks \{out\}"),
        ("python train.py {data} {out}", r"lacks \{seed\}"),
        (COMMAND + " {epoch}", r"has \{epoch\}: expected \{data\}, \{seed\} and \{out\}.*\{epochs\}"),
        ("python 'train.py {data} {seed} {out}", "correct its quotes"),
        ("nowhere.py:train", "nowhere.py:train: .*No such file"),
    ],
)
def test_what_is_no_trainer_is_one_line(spec: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        UserTrainer(spec)
    assert "\n" not in str(caught.value)


def test_braces_of_json_are_no_places() -> None:
    spec = COMMAND + """ --lora '{"r": 8}' --lr={lr}"""
    trainer = UserTrainer(spec)
    assert trainer.takes == {"data", "seed", "out", "lr"}
    recipe = Recipe(seed=5, lr=3e-5, epochs=4)
    assert trainer.given(recipe, None, "/m") == {"seed": 5, "lr": 3e-5}
    words = trainer._words({"data": "/d d", "seed": 5, "out": "/o", "lr": 3e-5})
    assert words[-3:] == ["--lora", '{"r": 8}', "--lr=3e-05"]
    assert "/d d" in words, "a place with a space is one word"


def test_a_function_says_by_its_signature_what_it_takes(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "raise SystemExit('never imported here')\n"
        "def plain(data, seed, out): ...\n"
        "def more(*, data, seed, out, lr, model='x', tokens=None, verbose=False): ...\n"
        "def any(**given): ...\n"
        "def wants(data, seed, out, wandb): ...\n"
        "def lacks(data, out): ...\n"
    )
    assert UserTrainer(f"{file}:plain").takes == {"data", "seed", "out"}
    assert UserTrainer(f"{file}:more").takes == {"data", "seed", "out", "lr", "model", "tokens"}
    assert UserTrainer(f"{file}:any").takes == {"data", "seed", "out"}
    assert UserTrainer(f"{file}:plain").files == (file,)
    for name, said in (("wants", "has {wandb}"), ("lacks", "lacks {seed}"), ("absent", "no function 'absent'")):
        with pytest.raises(RequestError, match=said):
            UserTrainer(f"{file}:{name}")


def test_a_python_function_is_named_by_its_file() -> None:
    from tests import trainer_toys

    assert spec_of(trainer_toys.train) == f"{trainer_toys.__file__}:train"
    for odd in (lambda data, seed, out: None, print, partial(trainer_toys.train, lr=1), Path.exists):
        with pytest.raises(RequestError, match=r"expected a function at the top of a \.py file"):
            spec_of(odd)

    def local(data, seed, out): ...

    with pytest.raises(RequestError, match="move it there"):
        spec_of(local)


def test_a_trainer_and_the_rest_of_a_request_must_agree() -> None:
    def made(**fields: Any) -> UserTrainer | None:
        return trainer_of(ProveRequest(pool=("p",), **fields))

    assert made() is None
    found = made(train_command=COMMAND, metric="eval/acc:higher")
    assert found is not None and found.metric == Metric("eval/acc", "better")
    assert Metric.parse("loss") == Metric.parse("loss:lower") == Metric("loss", "worse")
    assert Metric.parse("a:b") == Metric("a:b")
    for fields, said in (
        ({"metric": "loss"}, "expected --train-command"),
        ({"train_command": COMMAND, "protocol": "tokens"}, r"expected \{tokens\} in it"),
        ({"train_command": COMMAND + " {tokens}"}, "expected --protocol tokens"),
        ({"train_command": COMMAND, "metric": "a", "protect": ("x=y",)}, "--metric with --protect"),
    ):
        with pytest.raises(RequestError, match=said):
            made(**fields)
    assert "command's own" in UserTrainer(COMMAND).no_search
    assert "also judges" in UserTrainer(COMMAND + " {lr}", SCORE).no_search
    assert not UserTrainer(COMMAND + " {lr}").no_search


def test_an_edited_script_or_config_is_another_trainer(tmp_path: Path) -> None:
    spec = command(tmp_path, WRITES) + f" --config={tmp_path}/c.yaml"
    (tmp_path / "c.yaml").write_text("a: 1")
    key = UserTrainer(spec).key
    assert tmp_path / "c.yaml" in UserTrainer(spec).files
    assert UserTrainer(spec).key == key
    (tmp_path / "c.yaml").write_text("a: 2")
    assert UserTrainer(spec).key != key


def test_a_command_trains_from_an_empty_folder_and_its_noise_is_kept_apart(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "assert os.listdir(out) == [] and open(data).read() == '{}\\n' and os.getcwd() == os.environ['HERE']\n"
        "print('on stdout'); print('on stderr', file=sys.stderr)\n" + WRITES
    )
    trainer, folder = UserTrainer(command(tmp_path, code), SCORE), tmp_path / "t"
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "checkpoint-7").mkdir()
    os.environ["HERE"] = str(Path.cwd())
    assert json.loads((trained(trainer, folder) / "metrics.json").read_text()) == {"score": 3}
    assert (folder / "stdout.log").read_text() == "on stdout\n"
    assert (folder / "stderr.log").read_text() == "on stderr\n"
    assert capfd.readouterr() == ("", "")
    assert not (folder / "data.jsonl").exists(), "the pool holds them"
    assert seconds_of(folder) > 0


def test_a_function_is_called_in_a_process_of_its_own(tmp_path: Path) -> None:
    from tests import trainer_toys

    trainer = UserTrainer(spec_of(trainer_toys.train), Metric("lr"))
    out = trained(trainer, tmp_path / "t", lr=0.5)
    told = json.loads((out / "metrics.json").read_text())
    assert told == {"lr": 0.5, "seed": 3, "bytes": 3, "pid": told["pid"]}
    assert told["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "print('flushed last'); raise ValueError('no such\\ncolumn: text')",
            "exited with 1: column: text .*stderr.log",
        ),
        ("sys.stderr.write('step 1\\rstep 2\\n\\n'); os._exit(3)", r"exited with 3: step 2 \(all of it in"),
        ("os._exit(3)", r"exited with 3: \(it said nothing\)"),
        ("os.kill(os.getpid(), 9)", r"was killed \(SIGKILL\)"),
        ("pass", "left no metrics.json"),
        ("open(out + '/metrics.json', 'w').write('5')", "a int, expected a JSON object"),
        ("open(out + '/metrics.json', 'w').write('{\"loss\": 1}')", r"no number 'score' \(it has loss\)"),
        ("open(out + '/metrics.json', 'w').write('{\"score\": \"1\"}')", "no number 'score'"),
    ],
)
def test_a_training_that_goes_wrong_is_one_line(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(TrainerFailed, match=said) as caught:
        trained(UserTrainer(command(tmp_path, code), SCORE), tmp_path / "t")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "t" / "data.jsonl").exists(), "left for the user to look"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TrainerFailed, match=r"can't be started \(no-such-program: No such file"):
        trained(UserTrainer("no-such-program {data} {seed} {out}"), tmp_path / "t")


def test_a_metric_that_is_not_finite_is_the_trials_own_fault(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"score": NaN}')

    class Left:
        left = tmp_path

    with pytest.raises(NonsenseRefused, match="its score is nan") as caught:
        SCORE(Left, ())
    assert not isinstance(caught.value, TrainerFailed)
    (tmp_path / "metrics.json").write_text('{"score": 2}')
    assert SCORE(Left, ()).mean == 2.0


def test_the_model_is_found_at_the_top_or_in_the_only_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonsenseRefused, match="left no model"):
        weights_in(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NonsenseRefused, match="left no model"):
        weights_in(tmp_path)
    for name in ("checkpoint-1", "checkpoint-2", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-1" / "adapter_config.json").write_text("{}")
    assert weights_in(tmp_path) == tmp_path / "checkpoint-1"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "checkpoint-2" / name).write_text("{}")
    with pytest.raises(NonsenseRefused, match="left checkpoint-1, checkpoint-2 in"):
        weights_in(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_text("")
    assert weights_in(tmp_path) == tmp_path
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(NonsenseRefused, match="an adapter and a whole model"):
        weights_in(tmp_path)


def test_rows_are_written_byte_for_byte_in_the_pools_own_format(tmp_path: Path) -> None:
    lines = [f'{{"prompt": "q {n}",  "completion":"\\u00e9 {n}"}}\n'.encode() for n in range(6)]
    file = tmp_path / "pool.v2.jsonl"
    file.write_bytes(b"".join(lines).rstrip(b"\n"))
    pool = open_pool(file)
    ids = [pool.ids[n] for n in (5, 0, 3)]
    path = write_rows(pool, ids, (), tmp_path / "t")
    assert path == tmp_path / "t" / "data.jsonl"
    assert path.read_bytes() == lines[0] + lines[3] + lines[5].rstrip(b"\n")
    write_rows(pool, ids, (2.0, 1.0, 3.0), tmp_path / "t")
    assert path.read_bytes() == lines[0] + lines[3] * 3 + lines[5] + lines[5].rstrip(b"\n")
    with pytest.raises(RequestError, match=r"a row of weight 0\.5: .*whole weights"):
        write_rows(pool, ids, (2.0, 1.0, 0.5), tmp_path / "t")
    packed = tmp_path / "pool.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    path = write_rows(open_pool(packed), ids, (), tmp_path / "t")
    assert path.name == "data.jsonl.gz" and gzip.decompress(path.read_bytes()).startswith(lines[0] + lines[3])
    both = write_rows(open_pool([file, packed]), ids, (), tmp_path / "t")
    assert both.name == "data.jsonl"
    table = tmp_path / "pool.csv"
    table.write_text("prompt,completion\n" + "".join(f'"q, {n}",c\n' for n in range(4)))
    mixed = open_pool([file, table])
    path = write_rows(mixed, [ids[0], mixed.ids[7]], (), tmp_path / "t")
    assert {p.name: p.read_bytes() for p in path.iterdir()} == {
        "pool.v2.jsonl": lines[5].rstrip(b"\n"),
        "pool.csv": b'prompt,completion\n"q, 1",c\n',
    }


def test_trials_side_by_side_are_held_to_their_own_place() -> None:
    mine = {"PATH": "x", "CUDA_VISIBLE_DEVICES": "4,6"}
    assert environment_of(mine, "cuda:1", alone=True) == mine
    assert environment_of(mine, "cuda:1", alone=False)["CUDA_VISIBLE_DEVICES"] == "6"
    assert environment_of({}, "cuda:1", alone=False) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert environment_of({"OMP_NUM_THREADS": "3"}, "cpu", alone=False) == {"OMP_NUM_THREADS": "3"}
    assert environment_of({}, "cpu", alone=False) == {"OMP_NUM_THREADS": "1"}


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_training_ends_with_a_killed_parent_and_takes_its_children_along(tmp_path: Path, stubborn: bool) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    code += (
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        "pids = pathlib.Path(out).parent / 'pids'\n"
        "pids.with_name('new').write_text(f'{os.getpid()} {child.pid}')\n"
        "pids.with_name('new').rename(pids)\ntime.sleep(60)"
    )
    spec, folder = command(tmp_path, code), tmp_path / "t"
    folder.mkdir()
    runs = (
        "import sys, os, pathlib\nfrom dataworth.proving.trainers import UserTrainer\n"
        "UserTrainer(sys.argv[1]).train(pathlib.Path(sys.argv[2]), {'data': '', 'seed': 1}, os.environ)"
    )
    parent = subprocess.Popen([sys.executable, "-c", runs, spec, str(folder)])
    while not (folder / "pids").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert all(gone(int(pid)) for pid in (folder / "pids").read_text().split())


def test_a_trainer_that_is_edited_while_a_proof_runs_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("print(1)\n")
    trainer = UserTrainer(f"python {script} {{data}} {{seed}} {{out}}")
    before = trainer.key
    script.write_text("print(2)\n")
    assert trainer.key == before
    with pytest.raises(RequestError, match="changed while the proof ran"):
        trainer.train(tmp_path / "training", {"data": str(tmp_path / "none")}, {})


def test_a_long_word_is_no_file_and_no_error() -> None:
    assert UserTrainer(f"bash -c '{'x' * 5000}' {{data}} {{seed}} {{out}}").files == ()
