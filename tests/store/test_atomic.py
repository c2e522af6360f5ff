"""Every step that can fail is made to fail, once each; afterwards a resumed cache equals an undisturbed one."""

from __future__ import annotations

import errno
import os

import pytest
from store_toys import SPEC, columns_of, fill, row_ids

from dataworth.errors import RequestError
from dataworth.store import Cache, RunFolder, atomic, digests
from dataworth.store.atomic import TEMPORARY, checksum, remove_temporary, write_atomic

STEPS = ("open", "write", "fsync", "replace")


class FailingOs:
    """`os`, whose `fail_at`-th step raises; a failing write first writes half of its bytes."""

    def __init__(self, fail_at: int, code: int) -> None:
        self.fail_at, self.code, self.steps = fail_at, code, 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in STEPS:
            return real

        def step(*args, **kwargs):
            self.steps += 1
            if self.steps == self.fail_at:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return step


def test_every_failing_step_is_reported_and_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    ids = row_ids(12)
    clean = tmp_path / "clean"
    fill(clean, ids, shard_rows=8)
    wanted, n = digests(clean), 0
    while True:
        n += 1
        code = errno.ENOSPC if n % 2 else errno.EIO
        root, failing = tmp_path / str(n), FailingOs(n, code)
        monkeypatch.setattr(atomic, "os", failing)
        try:
            fill(root, ids, shard_rows=8)
        except RequestError as error:
            assert os.strerror(code) in str(error) and str(root) in str(error)
        monkeypatch.setattr(atomic, "os", os)
        if failing.steps < n:
            break
        fill(root, ids, shard_rows=8)
        assert digests(root) == wanted
        assert not [p for p in root.rglob("*") if p.name.startswith(TEMPORARY) or p.name == "lock"]
    assert n > 40  # spec, plan and two parts of six files, four steps each


def test_a_failing_step_never_shows_a_torn_or_lost_file(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    for n in range(1, 7):
        write_atomic(path, b"old")
        monkeypatch.setattr(atomic, "os", FailingOs(n, errno.ENOSPC))
        with pytest.raises(RequestError, match="can't write"):
            write_atomic(path, b"brand new")
        monkeypatch.setattr(atomic, "os", os)
        assert path.read_bytes() in (b"old", b"brand new")


def test_write_returns_the_checksum_and_leaves_nothing_aside(tmp_path):
    digest = write_atomic(tmp_path / "a", b"hello")
    assert digest == checksum(tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_torn_temporary_files_are_removed_by_the_next_plan(tmp_path):
    artefact = fill(tmp_path, row_ids(20), shard_rows=8)
    wanted = digests(tmp_path)
    parts = artefact.folder / "parts"
    (parts / f"{TEMPORARY}0000-000001.wide.npy").write_bytes(b"torn")
    (parts / "0007-000000.wide.npy").write_bytes(b"a part that was never marked")
    artefact.plan(row_ids(20))
    assert digests(tmp_path) == wanted
    assert remove_temporary(parts) == 0


def test_a_root_that_cannot_be_made_is_a_request_error(tmp_path):
    (tmp_path / "file").write_text("")
    for make in (lambda p: Cache(p).artefact("toy", SPEC).plan(row_ids(1)), lambda p: RunFolder(p, {})):
        with pytest.raises(RequestError, match="can't write"):
            make(tmp_path / "file" / "below")


def test_columns_survive_exactly(tmp_path):
    ids = [i for i in row_ids(30) if not i.endswith("0")]
    table = fill(tmp_path, ids, shard_rows=7).table(ids, verify=True)
    assert table.column("wide").tolist() == columns_of(ids)["wide"].tolist()
