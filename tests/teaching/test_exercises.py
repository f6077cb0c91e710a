"""An exercise: its solution passes its check, its starting point does not. A quiz is fair."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import jupytext
import pytest

from gnuq.artefacts import ROOT
from gnuq.widgets import quiz

sys.path.insert(0, str(ROOT / "book" / "teaching"))
import exercises as teaching

ALL = {
    f"{path.stem}-{k}": exercise
    for path in teaching.CHAPTERS
    for k, exercise in enumerate(teaching.exercises(path), 1)
}
every_exercise = pytest.mark.parametrize("exercise", ALL.values(), ids=ALL.keys())
every_chapter = pytest.mark.parametrize("path", teaching.CHAPTERS, ids=lambda path: path.stem)


def run(*sources: str) -> None:
    """Run cells one after the other, in names of their own."""
    names: dict[str, object] = {"__name__": "exercise"}
    for source in sources:
        exec(compile(source, "exercise", "exec"), names)


@every_exercise
def test_a_solution_passes_its_check(exercise: teaching.Exercise) -> None:
    run(exercise.solution, exercise.check)


@every_exercise
def test_a_starting_point_does_not(exercise: teaching.Exercise) -> None:
    with pytest.raises((AssertionError, NotImplementedError)):
        run(exercise.start, exercise.check)


@every_exercise
def test_a_failed_check_says_where_to_look(exercise: teaching.Exercise) -> None:
    asserted = [
        node for node in ast.walk(ast.parse(exercise.check)) if isinstance(node, ast.Assert)
    ]
    assert asserted
    assert all(node.msg is not None for node in asserted)


@every_chapter
def test_a_chapter_has_exercises_and_a_quiz(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    count = len(teaching.exercises(path))
    assert 2 <= count <= 4
    numbers = re.findall(r"^### Exercise (\d+): \S", text, flags=re.MULTILINE)
    assert numbers == [str(k) for k in range(1, count + 1)]
    assert 3 <= len(quiz.questions(path.stem)) <= 5
    assert f'quiz("{path.stem}")' in text


@every_chapter
def test_the_students_chapter_keeps_the_exercises_and_no_solution(path: Path) -> None:
    cells = teaching.without_solutions(jupytext.read(path)).cells
    found = [tag for cell in cells for tag in teaching.tags(cell)]
    assert "solution" not in found
    assert found.count("exercise") == len(teaching.exercises(path))


@every_chapter
def test_the_right_option_is_neither_always_in_one_place_nor_always_the_longest(path: Path) -> None:
    asked = [question.options for question in quiz.questions(path.stem)]
    right = [next(k for k, o in enumerate(options) if o.right) for options in asked]
    assert len(set(right)) > 1
    lengths = [[len(option.text) for option in options] for options in asked]
    assert not all(max(n) == n[k] for n, k in zip(lengths, right, strict=True))


@every_chapter
def test_an_option_says_why_and_its_marks_are_closed(path: Path) -> None:
    for question in quiz.questions(path.stem):
        assert 2 <= len(question.options) <= 4
        for text in (question.text, *(t for o in question.options for t in (o.text, o.because))):
            assert text.strip()
            assert text.count("`") % 2 == 0, text
            assert text.count(r"\(") == text.count(r"\)"), text
            assert "$" not in text, text  # the page would show it as it stands


@pytest.mark.parametrize("rights", [(False, False), (True, True)])
def test_a_question_takes_one_right_option(
    rights: tuple[bool, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"{{text: a, because: b, right: {str(right).lower()}}}" for right in rights]
    (tmp_path / "x.yml").write_text(f"- {{question: q, options: [{', '.join(options)}]}}")
    monkeypatch.setattr(quiz, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="it takes one"):
        quiz.questions("x")


def test_what_looks_like_markup_is_text_and_mathematics_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = r"- {question: '`a<b` & \(c<d\)', options: [{text: e, because: f, right: true}]}"
    (tmp_path / "x.yml").write_text(told)
    monkeypatch.setattr(quiz, "FOLDER", tmp_path)
    assert r"<legend><code>a&lt;b</code> &amp; \(c&lt;d\)</legend>" in quiz.markup("x")
    with pytest.raises(ValueError, match="has no quiz"):
        quiz.markup("y")


@pytest.mark.parametrize(
    ("source", "message"),
    [("x = 1", "no line '# Check'"), ("x = 1\n\n# Check\nassert x, 'x'", "no solution")],
)
def test_an_exercise_needs_a_check_and_a_solution(
    source: str, message: str, tmp_path: Path
) -> None:
    head = teaching.CHAPTERS[0].read_text(encoding="utf-8").partition("\n---\n")[0]
    cell = f"```{{code-cell}} ipython3\n:tags: [exercise]\n\n{source}\n```"
    (tmp_path / "chapter.md").write_text(f"{head}\n---\n\n{cell}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        teaching.exercises(tmp_path / "chapter.md")
