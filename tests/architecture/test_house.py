"""The house rules of docs/architecture.md: who imports whom, sizes, names, docs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest
from tests.mutants import mutants

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "dataworth"
MODULES = sorted(SRC.rglob("*.py"))

LEVEL_0 = {
    "errors",
    "records",
    "recipe",
    "results",
    "report",
    "outcome",
    "dynamics",
    "geometry",
    "markdown",
    "numerics",
}
LEVEL_1 = LEVEL_0 | {"formats", "store"}
MAY_IMPORT = {
    "errors": set(),
    "numerics": {"errors", "geometry", "numerics"},
    "recipe": {"errors"},
    "records": {"errors"},
    "results": {"errors", "records"},
    "report": {"results"},
    "outcome": {"errors", "records"},
    "dynamics": {"errors"},
    "geometry": set(),
    "markdown": set(),
    "formats": LEVEL_0 | {"formats"},
    "store": LEVEL_0 | {"store"},
    "scores": LEVEL_0 | {"scores"},
    "picks": LEVEL_0 | {"picks"},
    "checks": LEVEL_0 | {"checks"},
    "laws": LEVEL_0 | {"laws"},
    "exports": LEVEL_1 | {"exports"},
    "learners": LEVEL_1 | {"learners"},
    "probes": LEVEL_1 | {"learners", "probes"},
    "judges": LEVEL_1 | {"learners", "probes", "judges"},
    "engines": LEVEL_1 | {"engines"},
    "proof": LEVEL_1 | {"laws", "scores", "picks", "proof"},
    "config": LEVEL_0,
    "plugins": LEVEL_0 | {"scores", "picks", "checks"},
    "views": LEVEL_1 | {"views"},
    "cli": {"config", "api", "demo", "views", "errors"},
}
MODEL_ROOMS = {"learners", "probes", "judges"}
HEAVY = {"torch": MODEL_ROOMS, "transformers": MODEL_ROOMS, "peft": MODEL_ROOMS, "ray": set(), "matplotlib": {"views"}}


def room(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[tuple[str, int]]:
    """(dotted name, line) of every import in a file, lazy ones too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(a.name, node.lineno) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            whole = node.module == "dataworth"
            found += [(f"dataworth.{a.name}" if whole else node.module or "", node.lineno) for a in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    allowed = MAY_IMPORT.get(room(path))
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "dataworth" and allowed is not None and len(parts) > 1 and parts[1] not in allowed:
            wrong.append(f"line {line}: {name}")
        if parts[0] in HEAVY and room(path) not in HEAVY[parts[0]]:
            wrong.append(f"line {line}: {name} is heavy")
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SRC)))
def test_sizes_stay_within_budget(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 80, f"{node.name} is too long"


def test_the_median_module_is_small_and_tests_keep_pace() -> None:
    lines = [p.read_text().count("\n") for p in MODULES]
    tests = sum(p.read_text().count("\n") for p in (ROOT / "tests").rglob("*.py"))
    assert median(lines) <= 150
    assert tests >= 0.8 * sum(lines)


def test_no_module_is_a_dump() -> None:
    assert not [p for p in MODULES if p.stem in {"utils", "helpers", "misc", "common", "util", "helper"}]


def test_there_is_no_import_cycle_at_module_level() -> None:
    graph: dict[str, set[str]] = {}
    names = {".".join(p.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES}
    for name, path in names.items():
        top = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ImportFrom) and n.level == 0]
        targets = {n.module for n in top} | {f"{n.module}.{a.name}" for n in top for a in n.names}
        graph[name] = {t for t in targets if t in names and t != name}
    state: dict[str, int] = {}

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert state.get(node) != 1, f"cycle: {' -> '.join([*trail, node])}"
        if node in state:
            return
        state[node] = 1
        for after in sorted(graph[node]):
            visit(after, (*trail, node))
        state[node] = 2

    for name in names:
        visit(name, ())


def test_importing_the_api_and_cli_loads_no_model_library() -> None:
    loaded = "sorted({'torch', 'transformers', 'ray'} & set(sys.modules))"
    code = f"import sys, dataworth, dataworth.api, dataworth.cli; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_the_package_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import dataworth; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(r.stdout) for r in runs) < 0.3


def test_public_names_come_when_asked_for() -> None:
    code = (
        "import dataworth as dw, sys; assert 'dataworth.api' not in sys.modules; "
        "print([getattr(dw, n).__module__ for n in dw.__all__]); dw.nope"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert set(ast.literal_eval(done.stdout)) == {"dataworth.api"}
    assert done.stderr.strip().endswith("AttributeError: module 'dataworth' has no attribute 'nope'")


def test_public_names_are_few_and_sorted() -> None:
    import dataworth

    assert list(dataworth.__all__) == sorted(dataworth.__all__)
    assert len(dataworth.__all__) <= 30


def test_print_is_for_views_only() -> None:
    for path in MODULES:
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        named = [n for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
        assert not named or room(path) == "views", path


def test_every_method_and_check_has_its_docs_section() -> None:
    from dataworth import plugins

    methods = (ROOT / "docs" / "methods.md").read_text()
    checks = (ROOT / "docs" / "checks.md").read_text()
    for name in [*plugins.SCORES, *plugins.PICKS]:
        assert f"`{name}`" in methods, f"docs/methods.md has no section on {name}"
    for code in plugins.CHECKS:
        assert code in checks, f"docs/checks.md has no section on {code}"


def test_no_absolute_path_of_a_machine_in_the_project() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = done.stdout.split("\n")
    bad = ["/" + part + "/" for part in ("work", "home", "root")]
    for name in listed:
        path = ROOT / name
        if name and path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".json"} and path.is_file():
            text = path.read_text()
            assert not [b for b in bad if b in text], name


def test_every_mutant_names_the_code_as_it_stands():
    assert len(mutants()) > 200
