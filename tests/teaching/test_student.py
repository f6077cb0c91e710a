"""The students' copy: no solution survives in it, and a solution that does stops everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import yaml

from gnuq.artefacts import ROOT

sys.path.insert(0, str(ROOT / "book" / "teaching"))
import exercises
import student

HEAD = """---
jupytext:
  formats: ipynb,md:myst
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
CHAPTER = (
    HEAD
    + """# A chapter

### Exercise 1: halves

```{code-cell} ipython3
:tags: [exercise, raises-exception, skip-execution]

def half(value):
    raise NotImplementedError("your code")

# Check
assert half(4) == 2, "half of four"
```

```{code-cell} ipython3
---
jupyter:
  source_hidden: true
tags: [solution, hide-input]
---
def half(value):
    return value / (1 + 1)  # nobody writes this line twice
```

+++ {"tags": ["solution"]}

<details><summary>In words</summary>

Whoever halves a number twice has a *quarter* of it, and $x/4$ says so.

</details>

+++

## Quiz
"""
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one chapter, with a file that is not tracked."""
    root = tmp_path / "root"
    (root / "notebooks").mkdir(parents=True)
    (root / "notebooks" / "one.md").write_text(CHAPTER, encoding="utf-8")
    (root / "notebooks" / "one.ipynb").write_text("{}", encoding="utf-8")
    (root / "book").mkdir()
    (root / "book" / "page.md").write_text("# A page\n", encoding="utf-8")
    settings = {"launch_buttons": {"colab_url": "x"}, "html": {"use_repository_button": True}}
    (root / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    subprocess.run(["git", "-C", str(root), "add", "."], check=True)
    (root / "answers.txt").write_text("not tracked", encoding="utf-8")
    return root


@pytest.fixture
def copied(repository: Path, tmp_path: Path) -> Path:
    """The students' copy of it, stripped."""
    source = tmp_path / "src"
    student.copy_tracked(repository, source)
    student.strip(source, tmp_path / "handed")
    return source


@pytest.fixture
def marked(repository: Path, copied: Path) -> dict[str, str]:
    """What gives its solutions away."""
    return student.marks([repository / "notebooks" / "one.md"], copied)


def test_only_tracked_files_that_are_there_are_copied(repository: Path, tmp_path: Path) -> None:
    (repository / "book" / "page.md").unlink()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "old.md").write_text("from an earlier copy", encoding="utf-8")
    student.copy_tracked(repository, tmp_path / "src")
    found = {p.relative_to(tmp_path / "src").as_posix() for p in (tmp_path / "src").rglob("*.*")}
    assert found == {"notebooks/one.md", "notebooks/one.ipynb", "_config.yml"}


def test_a_folder_without_git_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="root: git cannot list"):
        student.tracked(tmp_path / "nothing")


def test_a_stripped_chapter_keeps_its_exercise_and_can_be_read_again(copied: Path) -> None:
    notebook = jupytext.read(copied / "notebooks" / "one.md")
    tags = [tag for cell in notebook.cells for tag in exercises.tags(cell)]
    assert tags.count("exercise") == 1
    assert "solution" not in tags
    assert "## Quiz" in notebook.cells[-1].source


def test_the_handed_out_notebook_is_the_stripped_chapter(copied: Path, tmp_path: Path) -> None:
    handed = json.loads((tmp_path / "handed" / "one.ipynb").read_text(encoding="utf-8"))
    beside = json.loads((copied / "notebooks" / "one.ipynb").read_text(encoding="utf-8"))
    chapter = jupytext.read(copied / "notebooks" / "one.md")
    assert handed == beside
    assert ["".join(c["source"]) for c in handed["cells"]] == [c.source for c in chapter.cells]
    assert "jupytext" not in handed["metadata"]


def test_no_button_leads_back_to_the_solutions(copied: Path) -> None:
    student.without_launch_buttons(copied / "_config.yml")
    settings = yaml.safe_load((copied / "_config.yml").read_text(encoding="utf-8"))
    assert "launch_buttons" not in settings
    assert settings["html"] == {"use_repository_button": False, "use_issues_button": False}


def test_marks_are_what_only_the_solution_says(marked: dict[str, str]) -> None:
    assert "returnvalue/(1+1)#nobodywritesthislinetwice" in marked
    assert any("Whoeverhalves" in mark for mark in marked)
    assert not any("defhalf" in mark for mark in marked)  # the starting point has it too
    assert set(marked.values()) == {"one"}


def test_a_clean_folder_is_handed_out(copied: Path, tmp_path: Path, marked: dict[str, str]) -> None:
    assert student.leaks(tmp_path / "handed", marked) == []
    assert student.leaks(copied, marked) == []
    student.refuse([])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", '<div class="cell tag_hide-input tag_solution docutils container"></div>'),
        ("b.html", "<span>return</span> value / (1 + 1)  <i># nobody writes this line twice</i>"),
        ("c.html", "<p>Whoever halves a number twice has a <em>quarter</em> of it</p>"),
        ("d.md", CHAPTER),
        ("searchindex.js", '{"t": "return value / (1 + 1)  # nobody writes this line twice"}'),
    ],
)
def test_a_solution_on_a_page_is_found(
    name: str, content: str, tmp_path: Path, marked: dict[str, str]
) -> None:
    folder = tmp_path / "html"
    folder.mkdir()
    (folder / name).write_text(content, encoding="utf-8")
    found = student.leaks(folder, marked)
    assert found
    with pytest.raises(RuntimeError, match=name):
        student.refuse(found)


def test_a_solution_in_a_notebook_is_found(
    repository: Path, tmp_path: Path, marked: dict[str, str]
) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    whole = jupytext.read(repository / "notebooks" / "one.md")
    jupytext.write(whole, folder / "tagged.ipynb")
    for cell in whole.cells:
        cell.metadata.pop("tags", None)
    jupytext.write(whole, folder / "untagged.ipynb")
    found = student.leaks(folder, marked)
    assert any(line.startswith("tagged.ipynb: a cell tagged") for line in found)
    assert any(line.startswith("untagged.ipynb: a line of one's") for line in found)


def test_every_solution_of_the_book_would_be_noticed(tmp_path: Path) -> None:
    """Each code solution has a line of its own, so that even without its tag it cannot slip by."""
    (tmp_path / "notebooks").mkdir()
    for chapter in exercises.CHAPTERS:
        stripped = exercises.without_solutions(jupytext.read(chapter))
        jupytext.write(stripped, tmp_path / "notebooks" / chapter.name, fmt="md:myst")
    found = student.marks(exercises.CHAPTERS, tmp_path)
    for chapter in exercises.CHAPTERS:
        for one in exercises.exercises(chapter):
            assert any(mark in student.dense(one.solution) for mark in found), one.solution


def test_main_publishes_nothing_that_leaks(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the notebooks alone: handed out when clean, refused and removed when not."""
    target = tmp_path / "student"
    monkeypatch.setattr(student, "STUDENT", target)
    monkeypatch.setattr(exercises, "ROOT", repository)
    monkeypatch.setattr(exercises, "CHAPTERS", [repository / "notebooks" / "one.md"])
    assert student.main(["--notebooks"]) == 0
    assert (target / "notebooks" / "one.ipynb").is_file()
    monkeypatch.setattr(exercises, "without_solutions", lambda notebook: notebook)
    assert student.main(["--notebooks"]) == 1
    assert not (target / "notebooks").exists()
