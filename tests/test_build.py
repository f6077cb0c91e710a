"""What a chapter's outputs depend on is found, and whatever of it changes is named.

The decisions of the real book are held against a real run in tests/site/test_inputs.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gnuq.artefacts import ROOT

sys.path.insert(0, str(ROOT / "book"))
import build
import execute
import inputs
import kernel
from inputs import UNKNOWN, Inputs, Project, Trace, changed

CELLS = ["import gnuq\nfrom gnuq.a import f", "y = f(2)", "from gnuq import b\nb.table['x']"]
FILES = {
    "book/kernel.py": "threads = 1\n",
    "gnuq/__init__.py": "",
    "gnuq/a.py": "from gnuq.c import factor\n\n\ndef f(x):\n    return g(x)\n\n\n"
    "def g(x):\n    return factor * x\n\n\ndef h(x):\n    return x\n",
    "gnuq/b.py": "table = {'x': 1}\nother = 2\n",
    "gnuq/c.py": "factor = 3\nhidden = 4\n",
    "gnuq/d.py": "registered = []\nregistered.append(1)\n\n\ndef plugged():\n    return 5\n",
    "data/table.csv": "1,2\n",
    "data/more/one.csv": "1\n",
    "helper.py": "help = 1\n",
}
TRACE = Trace(
    files=frozenset({"data/table.csv"}),
    folders=frozenset({"data/more"}),
    paths=frozenset({"data/absent.csv"}),
    modules=frozenset({"gnuq", "gnuq.a", "gnuq.b", "gnuq.c", "gnuq.d"}),
)


@pytest.fixture(autouse=True)
def _one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest changes a variable between a fixture and its test."""
    monkeypatch.setattr(inputs, "PLACES", inputs.PLACES | {"PYTEST_CURRENT_TEST"})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def before(project: Path) -> Inputs:
    return Project(project).inputs(CELLS, TRACE)


def put(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


def swap(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))

    return change


def test_nothing_changed(project: Path, before: Inputs) -> None:
    assert list(changed(before, Project(project).now(before, CELLS))) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (swap("gnuq/a.py", "factor * x", "factor + x"), "code gnuq.a:g"),
        (swap("gnuq/b.py", "'x': 1", "'x': 2"), "code gnuq.b:table"),
        (swap("gnuq/c.py", "factor = 3", "factor = 4"), "code gnuq.c:factor"),
        (swap("gnuq/d.py", "append(1)", "append(2)"), "code gnuq.d:"),
        (swap("gnuq/d.py", "return 5", "return 6"), "code gnuq.d:plugged"),
        (swap("gnuq/a.py", "from gnuq.c", "import gnuq.e\nfrom gnuq.c"), "code gnuq.a:import"),
        (lambda root: (root / "gnuq/d.py").unlink(), "module gnuq.d"),
        (put("data/table.csv", "1,3\n"), "file data/table.csv"),
        (lambda root: (root / "data/table.csv").unlink(), "file data/table.csv"),
        (put("data/more/two.csv", ""), "folder data/more"),
        (put("data/absent.csv", ""), "path data/absent.csv"),
        (put("book/kernel.py", "threads = 2\n"), "base"),
    ],
)
def test_what_a_chapter_reaches_is_named_when_it_changes(
    project: Path, before: Inputs, change: Callable[[Path], object], named: str
) -> None:
    """`gnuq.d` is imported and named by nobody: it counts whole."""
    change(project)
    found = list(changed(before, Project(project).now(before, CELLS)))
    assert named in found
    if not named.startswith("module"):
        assert len(found) == 1


@pytest.mark.parametrize(
    "change",
    [
        swap("gnuq/a.py", "return x", "return x + 1"),
        swap("gnuq/b.py", "other = 2", "other = 3"),
        swap("gnuq/c.py", "hidden = 4", "hidden = 5"),
        swap("gnuq/a.py", "def g(x):", "def g(x):\n    '''Words.'''\n    # a comment"),
        put("data/other.csv", "1\n"),
        put("gnuq/f.py", "new = 1\n"),
    ],
    ids=["function", "constant", "import's neighbour", "words", "file", "module"],
)
def test_what_a_chapter_does_not_reach_changes_nothing(
    project: Path, before: Inputs, change: Callable[[Path], object]
) -> None:
    change(project)
    assert list(changed(before, Project(project).now(before, CELLS))) == []


def test_what_is_installed_counts_and_not_what_a_file_says(
    project: Path, before: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [SimpleNamespace(name="numpy", version="3")]
    monkeypatch.setattr(inputs.metadata, "distributions", lambda: found)
    assert list(changed(before, Project(project).now(before, CELLS))) == ["base"]


def test_a_variable_of_the_environment_counts_unless_it_is_a_place(
    project: Path, before: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    assert list(changed(before, Project(project).now(before, CELLS))) == []
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    assert list(changed(before, Project(project).now(before, CELLS))) == ["base"]


def test_a_name_that_is_imported_from_two_places_is_refused(project: Path) -> None:
    """Which of them a cell means is only known when it runs."""
    cells = ["from gnuq.a import f, h\nf(1)", "from gnuq.b import table as f"]
    with pytest.raises(ValueError, match="f is imported from gnuq.a.f and from gnuq.b.table"):
        Project(project).inputs(cells, TRACE)


def test_what_has_changed_since_the_build_began_may_not_be_what_a_run_read(project: Path) -> None:
    """A file that was edited, appeared or went; the state before may come back."""
    started = Project(project)
    before = started.inputs(CELLS, TRACE)
    assert started.touched(before) == []
    time.sleep(0.02)  # the clock of files is coarse
    (project / "data/table.csv").write_text("1,3\n")
    assert started.touched(before) == ["file data/table.csv"]
    put("gnuq/c.py", FILES["gnuq/c.py"])(project)
    assert "code gnuq.c:factor" in started.touched(before)
    put("data/absent.csv", "")(project)
    assert "path data/absent.csv" in started.touched(before)
    began = Project(project)
    time.sleep(0.02)
    (project / "data/table.csv").unlink()
    assert "file data/table.csv" in began.touched(before)


def test_other_cells_reach_other_code(project: Path, before: Inputs) -> None:
    found = list(changed(before, Project(project).now(before, ["from gnuq.a import h\nh(1)"])))
    assert "code gnuq.a:h" in found
    assert "code gnuq.a:g" in found


def test_a_chapter_that_starts_a_program_is_always_executed(project: Path) -> None:
    trace = Trace(programs=frozenset({"make coffee"}))
    before = Project(project).inputs(CELLS, trace)
    assert before["program make coffee"] == UNKNOWN
    assert list(changed(before, Project(project).now(before, CELLS))) == ["program make coffee"]


def test_of_git_the_answer_counts(project: Path) -> None:
    before = Project(project).inputs(CELLS, Trace(programs=frozenset({"git rev-parse HEAD"})))
    assert list(changed(before, Project(project).now(before, CELLS))) == []
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=b@c.de"]
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    found = list(changed(before, Project(project).now(before, CELLS)))
    assert found == ["program git rev-parse HEAD"]


WATCHED = """
import os, sys
sys.path.insert(0, {book!r})
import kernel
from pathlib import Path
sys.path.insert(0, {root!r})
kernel.watch(kernel.Log(Path({log!r}), Path({root!r})))
import gnuq.a, helper
open({root!r} + "/data/table.csv").close()
os.close(os.open({root!r} + "/data/more/one.csv", os.O_RDONLY))
open({root!r} + "/written.txt", "w").close()
open({root!r} + "/gnuq/b.py", "r+").close()
os.chdir({root!r})
Path("data/absent.csv").is_file()
list(Path("data").glob("*/*.csv"))
Path("data/more").exists()
open("/dev/null").close()
import linecache; linecache.getline("gnuq/c.py", 1); linecache.getline(gnuq.a.__file__, 1)
import inspect; inspect.getsource(gnuq.a.f)
import importlib; importlib.import_module("gnuq.d")
os.access("data/other.csv", os.R_OK)
import subprocess; subprocess.run(["true", "it is"], check=True)
"""


def test_a_kernel_logs_what_it_reads_and_nothing_else(project: Path, tmp_path: Path) -> None:
    """By relative paths and absolute ones; not what is written, nor what a traceback quotes."""
    log = tmp_path / "log.jsonl"
    program = WATCHED.format(book=str(ROOT / "book"), root=str(project), log=str(log))
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    found = [tuple(json.loads(line)) for line in log.read_text().splitlines()]
    assert len(found) == len(set(found))
    assert {what for kind, what in found if kind == "file"} == {
        "data/table.csv",
        "data/more/one.csv",
        "gnuq/a.py",
        "gnuq/b.py",
        "helper.py",
    }
    assert {"data", "data/more"} <= {what for kind, what in found if kind == "folder"}
    assert {"data/absent.csv", "data/other.csv", "data/more"} <= {
        what for kind, what in found if kind == "path"
    }
    assert {what for kind, what in found if kind == "module"} == {
        "gnuq",
        "gnuq.a",
        "gnuq.c",
        "gnuq.d",
    }
    assert ("program", "true it is") in found


def test_a_log_that_was_cut_off_is_no_trace(tmp_path: Path) -> None:
    log = kernel.Log(tmp_path / "log", tmp_path)
    log.write("file", "data/table.csv")
    with pytest.raises(ValueError, match="log: .* is not whole"):
        Trace.read(tmp_path / "log")
    log.write("peak", "12")
    assert Trace.read(tmp_path / "log") == Trace(files=frozenset({"data/table.csv"}), peak=12)


def test_chapters_wait_for_memory() -> None:
    """Whoever wants more than there is runs alone; nobody waits for ever."""
    memory, running, most = execute.Memory(), [], []
    lock = threading.Lock()

    def work(wanted: int) -> None:
        taken = memory.take(wanted)
        with lock:
            running.append(taken)
            most.append(sum(running))
        time.sleep(0.005)
        with lock:
            running.remove(taken)
        memory.give(taken)

    sizes = [execute.TOGETHER // 2, 2 * execute.TOGETHER, execute.TOGETHER // 3, 1] * 5
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert max(most) <= execute.TOGETHER
    assert memory.free == execute.TOGETHER


HEAD = """---
jupytext:
  text_representation:
    format_name: myst
kernelspec:
  display_name: Python 3
  name: python3
---

# A chapter

"""
CELL = "```{{code-cell}} ipython3\n{}\n```\n"


@pytest.fixture
def book(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., execute.Book]:
    """A book of two chapters; the first reads a file, the second runs the cell that is given."""
    (project / "_toc.yml").write_text("root: one\nparts: [{chapters: [{file: two}]}]\n")
    (project / "one.md").write_text(HEAD + CELL.format("print(open('data/table.csv').read())"))
    monkeypatch.setattr(execute, "ROOT", project)
    monkeypatch.setattr(execute, "LOGS", project / "_build")
    monkeypatch.setattr(kernel, "ROOT", project)
    monkeypatch.setattr(kernel, "SHARED", ())

    def make(cell: str) -> execute.Book:
        (project / "two.md").write_text(HEAD + CELL.format(cell))
        return execute.Book(project / "_build" / "cache")

    return make


def outputs(chapter: execute.Chapter) -> str:
    """All that an executed chapter printed."""
    _, notebook = chapter.cache.merge_match_into_notebook(chapter.notebook)
    return "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))


def test_a_failing_cell_fails_the_build_and_leaves_nothing_of_it(
    book: Callable[..., execute.Book], capsys: pytest.CaptureFixture[str]
) -> None:
    made = book("print('before')\n1 / 0")
    assert [chapter.name for chapter, _ in made.stale()] == ["one", "two"]
    assert not made.execute(made.chapters)
    assert "two: not executed" in capsys.readouterr().err
    again = book("print('before')\n1 / 0")
    assert [chapter.name for chapter, _ in again.stale()] == ["two"]
    assert outputs(again.chapters[0]) == "1,2\n\n"
    assert list(json.loads(again.costs.read_text())) == ["one"]


def test_an_old_number_is_taken_out_before_the_new_one_is_computed(
    book: Callable[..., execute.Book], project: Path
) -> None:
    """A build that is cut off leaves a chapter without outputs, never with old ones."""
    made = book("1")
    assert made.execute(made.chapters)
    (project / "data/table.csv").write_text("7\n")
    made = book("1")
    ((chapter, reasons),) = made.stale()
    assert (chapter.name, reasons) == ("one", ["file data/table.csv"])
    chapter.forget()
    assert chapter.record is None
    assert made.execute([chapter])
    assert outputs(chapter) == "7\n\n"


@pytest.mark.parametrize("torn", ["", '{"cells": [', None])
def test_a_cache_that_was_torn_costs_one_chapter(
    book: Callable[..., execute.Book], torn: str | None
) -> None:
    """Killed, or out of disk, between the record and its file: executed again, not jammed."""
    made = book("1")
    assert made.execute(made.chapters)
    record = made.chapters[0].record
    path = made.chapters[0].cache.path / "executed" / record.hashkey / "base.ipynb"
    path.unlink() if torn is None else path.write_text(torn)
    made.costs.write_text('{"one": [1')
    again = book("1")
    assert [(chapter.name, why) for chapter, why in again.stale()] == [("one", ["its cells"])]
    assert again.execute([again.chapters[0]])
    assert list(book("1").stale()) == []


def test_a_chapter_of_another_folder_is_another(
    book: Callable[..., execute.Book], project: Path
) -> None:
    """Its cells run in that folder."""
    made = book("1")
    assert made.execute(made.chapters)
    (project / "deep").mkdir()
    (project / "two.md").rename(project / "deep/two.md")
    toc = "root: one\nparts: [{chapters: [{file: one, sections: [{file: deep/two}]}]}]\n"
    (project / "_toc.yml").write_text(toc)
    moved = execute.Book(project / "_build" / "cache")
    assert [(chapter.name, why) for chapter, why in moved.stale()] == [("deep/two", ["chapter"])]


def test_a_kernel_shows_no_progress_bar(book: Callable[..., execute.Book]) -> None:
    """Neither as text nor as a widget: the page would depend on what a cache held."""
    cell = "from tqdm import auto, notebook\nfor bar in (auto, notebook):"
    made = book(cell + "\n    print(len(list(bar.tqdm(range(3)))))")
    assert made.execute(made.chapters)
    _, notebook = made.chapters[1].cache.merge_match_into_notebook(made.chapters[1].notebook)
    found = notebook.cells[-1].outputs
    assert [output.name for output in found] == ["stdout"] * len(found)
    assert "".join(output.text for output in found) == "3\n3\n"


@pytest.mark.parametrize(
    ("edit", "named"),
    [("data/table.csv", "file data/table.csv"), ("gnuq/c.py", "code gnuq.c:factor")],
)
def test_what_is_edited_while_a_chapter_runs_is_not_taken_for_what_it_read(
    book: Callable[..., execute.Book], project: Path, edit: str, named: str
) -> None:
    """The chapter edits the file itself, after it has read it; so might an author meanwhile."""
    cell = "open('data/table.csv').close()\nfrom gnuq.a import f\nf(1)\nfrom pathlib import Path\n"
    cell += f"Path({edit!r}).write_text('factor = 9\\n')"
    made = book(cell)
    assert made.execute(made.chapters)
    (stale,) = [reasons for chapter, reasons in book(cell).stale() if chapter.name == "two"]
    assert named in stale


def test_every_build_has_the_same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has set reaches no page: threads, kernels, bars, or that the run is traced."""
    strange = ("OMP_NUM_THREADS", "JUPYTER_PATH", "PYTHONPATH", "GNUQ_TRACE", "JAX_ENABLE_X64")
    strange += ("PLOTLY_RENDERER", "XLA_FLAGS", "LC_ALL", "ANYTHING_ELSE")
    for name in strange:
        monkeypatch.delenv(name, raising=False)
    plain = build.environment()
    for name in strange:
        monkeypatch.setenv(name, "7")
    assert build.environment() == plain
    assert plain["TQDM_DISABLE"] == "1"
