from __future__ import annotations

from pathlib import Path

import pytest
from store_toys import SPEC, fill, row_ids

from dataworth.errors import FingerprintMismatch, RequestError
from dataworth.store import Cache, EntryLock, fingerprint, is_done, mark_done


def test_the_root_is_the_argument_else_the_environment_else_here(monkeypatch, tmp_path):
    monkeypatch.setenv("DATAWORTH_CACHE", str(tmp_path / "env"))
    assert Cache(tmp_path).root == tmp_path
    assert Cache().root == tmp_path / "env"
    monkeypatch.delenv("DATAWORTH_CACHE")
    assert Cache().root == Path(".dataworth")


def test_a_folder_is_done_only_while_its_files_are_whole(tmp_path):
    cache = Cache(tmp_path)
    path = cache.folder("trained", SPEC)
    assert path == tmp_path / "trained" / fingerprint(SPEC) and not is_done(path)
    (path / "sub").mkdir()
    (path / "sub" / "adapter.safetensors").write_bytes(b"12345")
    mark_done(path)
    assert is_done(cache.folder("trained", SPEC))
    (path / "sub" / "adapter.safetensors").write_bytes(b"1234")
    assert not is_done(path)


def test_a_folder_under_another_spec_is_refused(tmp_path):
    path = Cache(tmp_path).folder("trained", SPEC)
    (path / "spec.json").write_text('{"probe":"toy","width":4}')
    with pytest.raises(FingerprintMismatch, match="differs in width"):
        Cache(tmp_path).folder("trained", SPEC)


def test_size_and_clear_agree_and_spare_what_is_in_use(tmp_path):
    cache = Cache(tmp_path / "cache")
    assert cache.size() == {} and cache.clear() == 0
    cache.artefact("toy", SPEC)
    assert not cache.root.exists()  # reading writes nothing
    fill(cache.root, row_ids(20))
    (cache.root / "toy" / "mine.txt").write_text("not a cache entry")
    cache.folder("trained", SPEC)
    sizes = cache.size()
    assert set(sizes) == {"toy", "trained"} and min(sizes.values()) > 0
    with EntryLock(cache.folder("trained", SPEC)), pytest.raises(RequestError, match="being written"):
        cache.clear()
    assert cache.clear() == sizes["trained"]
    assert cache.size() == {"toy": len("not a cache entry")}
