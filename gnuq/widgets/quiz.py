"""A chapter's quiz: options that open to explain themselves, without a script or a kernel."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gnuq import artefacts

FOLDER = artefacts.ROOT / "book" / "teaching" / "quizzes"
#: JupyterLab has no stylesheet of ours; the website's theme.css says the same more finely.
_STYLE = (
    "<style>.gnuq-quiz fieldset{border:0;margin:0 0 1.2rem;padding:0}"
    ".gnuq-quiz legend{font-size:1em;font-weight:600}"
    ".gnuq-quiz summary{cursor:pointer;padding:.2rem 0}"
    ".gnuq-quiz details p{margin:.1rem 0 .5rem 1.2rem}</style>"
)


@dataclass(frozen=True)
class Option:
    r"""One answer to choose.

    Attributes:
        text: the answer, in Markdown's `code` and LaTeX's ``\(…\)`` only.
        because: why it is right or wrong.
        right: whether it is the right one.
    """

    text: str
    because: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with its options, one of which is right."""

    text: str
    options: tuple[Option, ...]


def questions(chapter: str) -> list[Question]:
    """A chapter's questions.

    Args:
        chapter: the name of its notebook without an ending, such as "03_gradient_norms".

    Raises:
        ValueError: there is no such quiz, or one of its questions has not exactly one right option.
    """
    path = FOLDER / f"{chapter}.yml"
    if not path.is_file():
        raise ValueError(f"chapter: {chapter!r} has no quiz; write it into {FOLDER / path.name}.")
    return [_question(told, path) for told in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _question(told: dict[str, Any], path: Path) -> Question:
    found = Question(told["question"], tuple(Option(**option) for option in told["options"]))
    right = sum(option.right for option in found.options)
    if right != 1:
        raise ValueError(f"{path.name}: {found.text!r} has {right} right options; it takes one.")
    return found


def markup(chapter: str) -> str:
    """The quiz as HTML: an option opens to say whether it is right, and why.

    Args:
        chapter: as for `questions`.
    """
    parts = [_asked(f"{chapter}-{k}", one) for k, one in enumerate(questions(chapter), 1)]
    return f'{_STYLE}<div class="gnuq-quiz mathjax_process">{"".join(parts)}</div>'


def _asked(name: str, question: Question) -> str:
    options = "".join(
        f'<details name="{name}"><summary>{_inline(option.text)}</summary>'
        f'<p class="{"gnuq-right" if option.right else "gnuq-wrong"}">'
        f"<strong>{'Right.' if option.right else 'No.'}</strong> {_inline(option.because)}</p>"
        "</details>"
        for option in question.options
    )
    return f"<fieldset><legend>{_inline(question.text)}</legend>{options}</fieldset>"


def _inline(text: str) -> str:
    """Text as HTML, `code` between backticks."""
    parts = html.escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))


def quiz(chapter: str) -> None:
    """Show a chapter's quiz, on the website and in a live kernel alike.

    Args:
        chapter: as for `questions`.
    """
    from IPython.display import HTML, display

    publish: Callable[..., None] = display  # IPython does not say its types
    publish(HTML(markup(chapter)))
