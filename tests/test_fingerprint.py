"""A fingerprint changes with the code that a computation reaches, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gnuq.artefacts import ROOT
from gnuq.fingerprint import Code, FingerprintError

MAIN = '''"""A package's module."""
from __future__ import annotations
from pack import tools
from pack.tools import Shape, SETTINGS as S
import numpy as np

SCALE = 2  # doubles
RULES = {}

def rule(kind):
    def register(f):
        RULES[kind] = f
        return f
    return register

@rule("x")
def x_rule(): return 11

if np.pi > 3:
    np.seterr(all="raise")
np.state = 12
KEY = "a"
TABLE = {KEY: tools.first, "b": tools.second}
UNUSED = 7

def entry(x: Shape) -> float:
    """What it does."""
    from pack.late import arrive
    return RULES["x"]() + SCALE * tools.half(x) + S["n"] + np.sin(x) + arrive()

def pick(name: str) -> float:
    return TABLE[name]()

def alone() -> int:
    return 1
'''
TOOLS = '''SETTINGS = {"n": 3}
OTHERS = {"n": 3.0}
import random
random.seed(0)

class Shape:
    """A shape."""
    width: int = 1

    def area(self) -> int:
        return side() * self.width

def side() -> int: return 4
def half(x): return x / 2
def first(): return 1
def second(): return 2
def ready(): return 7
def steady(): return 8
'''
LATE = "def arrive(): return 5\n"
FACE = "from pack.main import entry\nfrom pack import tools\ntools.ready()\n"


def package(folder: Path, **changed: str) -> Code:
    (folder / "pack").mkdir(parents=True, exist_ok=True)
    sources = {"main": MAIN, "tools": TOOLS, "late": LATE, "__init__": FACE} | changed
    for name, text in sources.items():
        (folder / "pack" / f"{name}.py").write_text(text)
    return Code(folder, ("pack",))


@pytest.fixture
def original(tmp_path: Path) -> str:
    return package(tmp_path / "before").fingerprint("pack.main.entry")


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "SCALE = 2", "SCALE = 3"),  # a constant
        ("main", "SCALE *", "SCALE +"),  # the entry itself
        ("tools", "x / 2", "x / 3"),  # a function, reached as module.name
        ("tools", "return 4", "return 5"),  # a method's helper, reached through an annotation
        ("tools", "width: int = 1", "width: int = 2"),  # a field
        ("tools", '{"n": 3}', '{"n": 4}'),  # imported under another name
        ("tools", "seed(0)", "seed(1)"),  # what the module does on import
        ("late", "return 5", "return 6"),  # imported inside the function
        ("main", "return 11", "return 12"),  # registered by a decorator
        ("main", 'all="raise"', 'all="warn"'),  # done on import, under a condition
        ("main", "state = 12", "state = 13"),  # an attribute set on import
        ("main", "import numpy as np", "import scipy as np"),  # another function of that name
        ("main", "Shape, SETTINGS as S", "Shape, OTHERS as S"),
        ("__init__", "tools.ready()", "tools.steady()"),  # what importing the package does
    ],
)
def test_what_is_reached_counts(
    tmp_path: Path, original: str, module: str, old: str, new: str
) -> None:
    source = {"main": MAIN, "tools": TOOLS, "late": LATE, "__init__": FACE}[module]
    assert source.count(old) == 1
    changed = package(tmp_path / "after", **{module: source.replace(old, new)})
    assert changed.fingerprint("pack.main.entry") != original


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", '"""What it does."""', '"""What it does, told anew."""'),
        ("main", '    """What it does."""\n', ""),
        ("main", '"""A package\'s module."""', '"""Another."""'),
        ("main", "# doubles", "# twice"),
        ("main", "UNUSED = 7", "UNUSED = 8"),
        ("main", "def alone() -> int:\n    return 1", "def alone() -> int:\n    return 2"),
        ("main", '-> float:\n    """', '-> object:\n    """'),  # an annotation
        ("main", "SCALE * tools.half(x)", "(SCALE   *\n        tools.half(x))"),  # its layout
        ("tools", '"""A shape."""', '"""A form."""'),
        ("tools", "def first(): return 1", "def first(): return 9"),
    ],
)
def test_what_is_not_reached_and_what_does_nothing_does_not(
    tmp_path: Path, original: str, module: str, old: str, new: str
) -> None:
    source = {"main": MAIN, "tools": TOOLS}[module]
    assert source.count(old) >= 1
    changed = package(tmp_path / "after", **{module: source.replace(old, new, 1)})
    assert changed.fingerprint("pack.main.entry") == original


def test_a_table_can_be_narrowed_to_one_entry(tmp_path: Path) -> None:
    before = package(tmp_path / "before")
    after = package(tmp_path / "after", tools=TOOLS.replace("return 2", "return 3"))
    chosen = {"pack.main.TABLE": "a"}
    entry = "pack.main.pick"
    assert before.fingerprint(entry) != after.fingerprint(entry)
    assert before.fingerprint(entry, choose=chosen) == after.fingerprint(entry, choose=chosen)
    other = {"pack.main.TABLE": "b"}
    assert before.fingerprint(entry, choose=other) != after.fingerprint(entry, choose=other)


def test_a_face_leads_to_what_it_re_exports(tmp_path: Path, original: str) -> None:
    code = package(tmp_path / "again")
    assert code.fingerprint("pack.entry") == original
    path, first, last = code.lines("pack.entry")
    assert path.name == "main.py"
    text = path.read_text().splitlines()
    assert text[first - 1].startswith("def entry")
    assert text[last - 1].strip().startswith("return RULES")


@pytest.mark.parametrize(
    ("entry", "choose", "match"),
    [
        ("pack.main.absent", {}, "absent"),
        ("pack.none.f", {}, "none"),
        ("pack.main.pick", {"pack.main.TABLE": "z"}, "no entry 'z'"),
        ("pack.main.entry", {"pack.main.SCALE": "a"}, "not a dictionary"),
        ("pack.main.alone", {"pack.main.TABLE": "a"}, "not reached"),
    ],
)
def test_what_cannot_be_followed_is_named(
    tmp_path: Path, entry: str, choose: dict[str, str], match: str
) -> None:
    with pytest.raises(FingerprintError, match=match):
        package(tmp_path).fingerprint(entry, choose=choose)


def test_an_import_of_everything_is_refused(tmp_path: Path) -> None:
    code = package(tmp_path, main="from pack.tools import *\n" + MAIN.partition('"""\n')[2])
    with pytest.raises(FingerprintError, match=r"pack.main, line 1: `import \*`"):
        code.fingerprint("pack.main.alone")


def test_the_layer_rules_count_for_whatever_takes_gradient_norms() -> None:
    reached = Code(ROOT).reached("gnuq.results.maps")
    assert ("gnuq.gradnorm.rules", "linear") in reached or ("gnuq.gradnorm.rules", "") in reached
    source = Code(ROOT)._known("gnuq.gradnorm.rules")
    assert {"linear", "embedding", "layer_norm"} <= {getattr(s, "name", "") for s in source.effects}


def test_the_fingerprint_of_a_posterior_stops_at_its_own_problem() -> None:
    reached = Code(ROOT).reached(
        "gnuq.pipeline.posteriors.posterior_record",
        choose={"gnuq.problems.PROBLEMS": "xor"},
    )
    assert ("gnuq.problems", "_xor") in reached
    assert ("gnuq.posteriors.hmc", "_transition") in reached
    assert ("gnuq.problems", "_rings") not in reached
    assert not [d for d in reached if d[0].startswith(("gnuq.figures", "gnuq.results"))]


def test_other_pythons_agree() -> None:
    """The syntax trees of Python's versions differ in their empty fields."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import importlib.util as u, types, pathlib\n"
        "pack = types.ModuleType('gnuq'); pack.__path__ = [sys.argv[1] + '/gnuq']\n"
        "sys.modules['gnuq'] = pack\n"
        "from gnuq.fingerprint import Code\n"
        "code = Code(pathlib.Path(sys.argv[1]))\n"
        "print(code.fingerprint(*sys.argv[2:]))\n"
    )
    entries = ("gnuq.pipeline.posteriors.posterior_record", "gnuq.results.maps")
    here = Code(ROOT).fingerprint(*entries)
    others = [f"python3.{minor}" for minor in range(11, 15)]
    tried = 0
    for python in [sys.executable, *others]:
        try:
            command = [python, "-c", program, str(ROOT), *entries]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            assert done.stdout.strip() == here, python
            tried += 1
    assert tried
