import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from dataworth import plugins
from dataworth.errors import RequestError


@pytest.fixture(autouse=True)
def fresh():
    plugins.catalogue.cache_clear()
    yield
    plugins.catalogue.cache_clear()


def install(monkeypatch, *points):
    found = [EntryPoint(name, value, group) for name, value, group in points]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [p for p in found if p.group == group])


@pytest.mark.parametrize(("group", "key"), [("scores", "name"), ("picks", "name"), ("checks", "code")])
def test_every_entry_loads_under_its_own_name(group, key):
    for name in plugins.catalogue(group):
        assert getattr(plugins.load(group, name), key) == name


def test_unknown_names_name_the_nearest():
    with pytest.raises(RequestError, match="did you mean 'less'"):
        plugins.load("scores", "les")
    with pytest.raises(RequestError, match="known: balanced, band, bottom_k"):
        plugins.load("picks", "zzz")


def test_entry_points_join_and_must_fit(monkeypatch):
    install(
        monkeypatch,
        ("mine", "dataworth.scores.length:Length", "dataworth.scores"),
        ("odd", "dataworth.records:Budget.parse", "dataworth.picks"),
        ("bad", "dataworth.errors:Stopped", "dataworth.scores"),
    )
    assert plugins.load("scores", "mine").name == "length"
    assert "mine" not in plugins.catalogue("picks")
    with pytest.raises(RequestError, match="lacks name, kinds, needs, higher"):
        plugins.load("scores", "bad")


def test_two_packages_must_not_claim_one_name(monkeypatch):
    install(monkeypatch, ("less", "elsewhere:Less", "dataworth.scores"))
    with pytest.raises(RequestError, match="two scores are called 'less'"):
        plugins.load("scores", "less")


def test_options_are_typed_and_checked():
    bm25 = plugins.load("scores", "bm25")
    assert plugins.options(bm25, {"k1": "2", "reduce": "mean"}) == {"k1": 2.0, "reduce": "mean"}
    assert plugins.options(plugins.load("scores", "random"), {"seed": 3}) == {"seed": 3}
    with pytest.raises(RequestError, match="did you mean 'k1'"):
        plugins.options(bm25, {"k": "2"})
    with pytest.raises(RequestError, match="it takes: none"):
        plugins.options(plugins.load("scores", "length"), {"unit": "2"})
    with pytest.raises(RequestError, match="expected float"):
        plugins.options(bm25, {"k1": "two"})


def test_the_catalogue_imports_no_method():
    code = (
        "import sys, dataworth.plugins; print([m for m in sys.modules if m.startswith(('dataworth.scores', 'scipy'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
