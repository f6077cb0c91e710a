"""What a digest by content stands for: the same code by any other name, and no other code.

The properties are held on the project's own source, as it stands: rewritten whole, or changed in
one place that a computation reaches.
"""

from __future__ import annotations

import ast
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gnuq.artefacts import ROOT
from gnuq.fingerprint import Code
from gnuq.fingerprint.source import Module

PACKAGES = ("gnuq", "benchmarks")
#: Entries that reach samplers, estimators, language models and tables, with what they narrow.
ENTRIES: dict[str, dict[str, str]] = {
    "gnuq.pipeline.posteriors.posterior_record": {"gnuq.problems.PROBLEMS": "xor"},
    "gnuq.pipeline.curve.curve_record": {},
    "gnuq.results.scaling.compare": {},
    "gnuq.scoring.score": {},
    "gnuq.qa.steps.scores": {},
    "benchmarks.scoring.measure": {},
}


def digests(root: Path, renamed: Callable[[str], str] = str) -> dict[str, str]:
    code = Code(root, PACKAGES)
    return {
        entry: code.fingerprint(
            renamed(entry), choose={renamed(table): key for table, key in choose.items()}
        )
        for entry, choose in ENTRIES.items()
    }


@pytest.fixture(scope="module")
def original() -> dict[str, str]:
    return digests(ROOT)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def sources(root: Path) -> Iterator[Path]:
    return (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))


def rewritten(root: Path, change: Callable[[ast.Module], ast.Module]) -> None:
    for path in sources(root):
        tree = change(ast.parse(path.read_text()))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def replaced(root: Path, old: str, new: str) -> int:
    """Replace a name everywhere; how often."""
    count = 0
    for path in sources(root):
        text, found = re.subn(rf"(?<![\w'\"]){old}(?![\w'\"])", new, path.read_text())
        path.write_text(text)
        count += found
    return count


class _Renamed(ast.NodeTransformer):
    """Every local variable of every function gets another name."""

    def __init__(self) -> None:
        self.names: list[dict[str, str]] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        taken = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
        inside = [n for n in ast.walk(node) if isinstance(n, ast.Global | ast.Nonlocal)]
        taken |= {name for statement in inside for name in statement.names}
        fields = {
            s.target.id if isinstance(s, ast.AnnAssign) else t.id
            for c in ast.walk(node)
            if isinstance(c, ast.ClassDef)
            for s in c.body
            if isinstance(s, ast.Assign | ast.AnnAssign)
            for t in (s.targets if isinstance(s, ast.Assign) else [s.target])
            if isinstance(t, ast.Name)
        }
        stored = {
            n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        outer = self.names[-1] if self.names else {}
        new = {name: f"{name}_{len(name)}" for name in stored - taken - fields}
        self.names.append(outer | new)
        self.generic_visit(node)
        self.names.pop()
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if self.names and node.id in self.names[-1]:
            node.id = self.names[-1][node.id]
        return node


def shuffled(tree: ast.Module) -> ast.Module:
    """Definitions in another order; imports and what registers itself stay where they are."""
    effects = Module("gnuq.any", tree, is_package=False).effects
    places = [
        i
        for i, s in enumerate(tree.body)
        if isinstance(s, ast.FunctionDef | ast.ClassDef) and s not in effects
    ]
    moved = random.Random(0).sample([tree.body[i] for i in places], len(places))
    names = [s.name for s in moved]  # type: ignore[attr-defined]
    if len(set(names)) == len(names):
        for place, statement in zip(places, moved, strict=True):
            tree.body[place] = statement
    return tree


class _Reworded(ast.NodeTransformer):
    """Every error says something else."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [
                ast.Constant("another text")
                if isinstance(a, ast.JoinedStr)
                or (isinstance(a, ast.Constant) and isinstance(a.value, str))
                else a
                for a in node.exc.args
            ]
        return node


def moved(root: Path, old: str, new: str) -> None:
    """Move a module, and change who names it."""
    source = root.joinpath(*old.split(".")).with_suffix(".py")
    target = root.joinpath(*new.split(".")).with_suffix(".py")
    target.parent.mkdir(exist_ok=True)
    source.rename(target)
    package, _, name = old.rpartition(".")
    there, _, called = new.rpartition(".")
    for path in sources(root):
        line = rf"\bfrom {package} import {name}\b"
        text = re.sub(line, f"from {there} import {called} as {name}", path.read_text())
        path.write_text(re.sub(rf"\b{old.replace('.', '[.]')}\b", new, text))


#: Changes of everything at once that mean nothing.
MEANINGLESS: dict[str, Callable[[ast.Module], ast.Module]] = {
    "layout and comments": lambda tree: tree,
    "names of local variables": lambda tree: _Renamed().visit(tree),
    "order of definitions": shuffled,
    "words of errors": lambda tree: _Reworded().visit(tree),
}


def test_what_means_nothing_changes_nothing(original, copy):
    """All of it together."""
    for change in MEANINGLESS.values():
        rewritten(copy, change)
    replaced(copy, "Architecture", "Multilayer")
    moved(copy, "gnuq.networks", "gnuq.multilayer")
    assert digests(copy) == original


@pytest.mark.weekly
@pytest.mark.parametrize("change", MEANINGLESS)
def test_each_change_of_everything_means_nothing(original, copy, change):
    rewritten(copy, MEANINGLESS[change])
    assert digests(copy) == original


@pytest.mark.weekly
@pytest.mark.parametrize(("old", "new"), [
    ("Architecture", "Multilayer"),  # a class
    ("point_estimate", "found_by_training"),  # a function
    ("_circles_of", "_rings"),  # a constant or nothing
    ("MAP_SEEDS", "STARTS"),  # a constant
])  # fmt: skip
def test_the_name_of_a_definition_means_nothing(original, copy, old, new):
    replaced(copy, old, new)
    assert digests(copy) == original


@pytest.mark.weekly
@pytest.mark.parametrize(("old", "new"), [
    ("gnuq.networks", "gnuq.multilayer"),  # renamed
    ("gnuq.posteriors.training", "gnuq.training"),  # to another floor
])  # fmt: skip
def test_where_a_module_stands_means_nothing(original, copy, old, new):
    moved(copy, old, new)
    assert not copy.joinpath(*old.split(".")).with_suffix(".py").exists()
    assert digests(copy) == original


def places(code: Code, entry: str) -> Iterator[tuple[Path, ast.Module, ast.AST]]:
    """Every number, operator and comparison in the functions that an entry reaches."""
    reached = code.digests(entry, choose=ENTRIES[entry])
    narrowed = {code.find(table) for table in ENTRIES[entry]}
    for module, name in sorted(reached.keys() - narrowed):
        path = code._path(module)
        tree = ast.parse(path.read_text())
        for statement in tree.body:
            if getattr(statement, "name", None) != name:
                continue
            unhashed = [
                inner
                for node in ast.walk(statement)
                for child in (
                    getattr(node, "annotation", None),
                    getattr(node, "returns", None),
                    node if isinstance(node, ast.Raise | ast.Assert) else None,
                )
                if child is not None
                for inner in ast.walk(child)
            ]
            for node in ast.walk(statement):
                number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
                if (number or isinstance(node, ast.BinOp | ast.Compare)) and node not in unhashed:
                    yield path, tree, node


def changed(node: ast.AST) -> None:
    if isinstance(node, ast.Constant):
        node.value += 1
    elif isinstance(node, ast.BinOp):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.Compare):
        node.ops[0] = ast.Gt() if isinstance(node.ops[0], ast.Lt) else ast.Lt()


@pytest.mark.parametrize("entry", ["gnuq.pipeline.curve.curve_record"])
def test_a_changed_number_operator_or_comparison_counts(original, copy, entry):
    """Places of all that the entry reaches, drawn at random."""
    every_change_counts(original, copy, entry, 8)


@pytest.mark.weekly
@pytest.mark.parametrize("entry", ENTRIES)
def test_many_changed_places_count(original, copy, entry):
    every_change_counts(original, copy, entry, 60)


def every_change_counts(original, copy: Path, entry: str, count: int) -> None:
    found = list(places(Code(copy, PACKAGES), entry))
    assert len(found) > 50
    for path, tree, node in random.Random(entry).sample(found, min(count, len(found))):
        before = path.read_text()
        changed(node)
        path.write_text(ast.unparse(tree))
        new = Code(copy, PACKAGES).fingerprint(entry, choose=ENTRIES[entry])
        assert new != original[entry], f"{path}:{node.lineno}"
        path.write_text(before)
