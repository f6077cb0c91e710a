"""The explorer of single questions: pick a run, a filter and a question, and read all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ipywidgets

from gnuq.display import COLOURS, in_book
from gnuq.qa import study
from gnuq.walkthrough import quoted_answers, single_questions
from gnuq.walkthrough.single_questions import FILTERS, LABELS, Single
from gnuq.widgets import outputs, question_cards
from gnuq.widgets.settling import Settling

SPLIT = "Split by token"
_WRAPPED = {"flex_flow": "row wrap"}
#: Characters of an answer that stand beside its question's id in the menu.
_SHOWN = 40


class Questions:
    """Menus that choose a question, buttons that step through them, and the question whole.

    Attributes:
        panel: the widget to display.
        controls: the menus: model, benchmark, filter, score, question.
        before: steps to the previous question of the filter.
        after: steps to the next one.
        split: splits the answer's norm by token; loads the model.
        status: where we are, or what went wrong.
        card: the output that holds the question.
        single: what is shown; None if the filter lets no question through.

    Raises:
        ValueError: no run is finished.
    """

    def __init__(self) -> None:
        if not study.FINISHED:
            raise ValueError("study.FINISHED: no run has records; record one (gnuq.qa.study).")
        self.single: Single | None = None
        self._settling = Settling()
        self.controls = _menus()
        self.before = ipywidgets.Button(description="Previous", icon="arrow-left")
        self.after = ipywidgets.Button(description="Next", icon="arrow-right")
        self.split = ipywidgets.Button(description=SPLIT, icon="play")
        self.status, self.card = ipywidgets.HTML(), ipywidgets.Output()
        self.before.on_click(lambda _: self._step(-1))
        self.after.on_click(lambda _: self._step(1))
        self.split.on_click(self._on_split)
        for control in self.controls.values():
            control.observe(self._on_change, names="value")
        pressed = [self.before, self.after, self.split, self.status]
        menus = ipywidgets.Box(list(self.controls.values()), layout=_WRAPPED)
        self.panel = ipywidgets.VBox([menus, ipywidgets.Box(pressed, layout=_WRAPPED), self.card])
        self._adapt()
        self._refill()

    def _on_change(self, change: dict[str, Any]) -> None:
        if self._settling.active:
            return
        if change["owner"] is self.controls["question"]:
            self._show()
            return
        if change["owner"] is self.controls["model"]:
            self._adapt()
        self._refill()

    def _adapt(self) -> None:
        """Offer the benchmarks that the model has answered; keep the present one if it is."""
        menu, model = self.controls["benchmark"], self.controls["model"].value
        there = [b for m, b in study.FINISHED if m == model]
        with self._settling:
            kept = menu.value
            menu.options = [(question_cards.BENCHMARKS.get(b, b), b) for b in there]
            menu.value = kept if kept in there else there[0]

    def _refill(self) -> None:
        """Offer the questions that the filter lets through; stay at the present one if it does."""
        model, benchmark, name, score = (
            self.controls[key].value for key in ("model", "benchmark", "filter", "score")
        )
        found = single_questions.chosen(model, benchmark, name, score)
        answers = single_questions.answers_of(model, benchmark)["answer"]
        menu = self.controls["question"]
        with self._settling:
            kept = menu.value
            menu.options = [(f"{i}: {answers[i][:_SHOWN]}", i) for i in found]
            menu.value = kept if kept in found else next(iter(found), None)
        self._show()

    def _step(self, by: int) -> None:
        menu = self.controls["question"]
        if menu.index is not None:
            menu.index = (menu.index + by) % len(menu.options)

    def _show(self) -> None:
        menu = self.controls["question"]
        for button in (self.before, self.after, self.split):
            button.disabled = menu.index is None
        if menu.index is None:
            self.single, self.card.outputs = None, ()
            self.status.value = outputs.say("No question of this run passes the filter.")
            return
        where = f"{menu.index + 1} of {len(menu.options)}"
        try:
            self.single = single_questions.view(*self._chosen())
        except (RuntimeError, ValueError) as error:  # the benchmark's file is another one
            self._fail(error)
            return
        self.split.disabled = self.single.tokens.empty
        self._fill(where)

    def _fill(self, said: str) -> None:
        assert self.single is not None
        outputs.fill(self.card, {"text/html": question_cards.card(self.single)})
        self.status.value = outputs.say(said)

    def _on_split(self, _: ipywidgets.Button) -> None:
        assert self.single is not None
        self.status.value = outputs.say(
            "Splitting; the model is loaded first, which takes a while."
        )
        self.split.disabled = True
        try:
            tokens = single_questions.split(*self._chosen())
        except (RuntimeError, ValueError) as error:
            self.split.disabled = False
            self._fail(error)
            return
        self.single = replace(self.single, tokens=tokens)
        self._fill("Split by token.")

    def _chosen(self) -> Sequence[str]:
        return [self.controls[key].value for key in ("model", "benchmark", "question")]

    def _fail(self, error: Exception) -> None:
        self.status.value = outputs.say(str(error), shade=COLOURS["aleatoric"])


def _menus() -> dict[str, Any]:
    models = list(dict.fromkeys(model for model, _ in study.FINISHED))
    scores = [(label, column) for column, label in LABELS.items()]
    made: dict[str, Any] = {
        "model": ipywidgets.Dropdown(options=models, description="Model"),
        "benchmark": ipywidgets.Dropdown(description="Benchmark"),
        "filter": ipywidgets.Dropdown(options=list(FILTERS), description="Show"),
        "score": ipywidgets.Dropdown(options=scores, description="Confident by"),
        "question": ipywidgets.Dropdown(description="Question"),
    }
    for control in made.values():
        control.style.description_width = "7em"
        control.layout.width = "24em"
    return made


def questions() -> None:
    """Show the explorer in a live kernel, and on the website the quoted answers."""
    from IPython.display import display

    publish: Callable[..., None] = display  # IPython does not say its types
    if not in_book():
        publish(Questions().panel)
        return
    quoted = quoted_answers.quoted()
    told = question_cards.finding(quoted)
    publish({"text/html": question_cards.page(quoted), "text/plain": told}, raw=True)
