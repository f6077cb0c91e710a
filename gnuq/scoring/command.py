"""`python -m gnuq score`: one question, or a file of them."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gnuq.gradnorm import UnsupportedModuleError
from gnuq.language_models import Loaded, ModelError, load, texts
from gnuq.scoring import console, files, models, reference, report
from gnuq.scoring.calibration import Calibration
from gnuq.scoring.examples import Encoder, ScoreError
from gnuq.scoring.own_answers import greedy
from gnuq.scoring.questions import asked
from gnuq.scoring.score import score
from gnuq.scoring.scores import Scores
from gnuq.scoring.settings import Settings


def main(options: argparse.Namespace) -> int:
    """Score what the options ask for; what a user can mend is told in one line.

    Returns:
        0; 1 if lines of a file could not be scored; 2 if nothing could.
    """
    quiet()
    try:
        _fit_together(options)
        with console.warnings_in_one_line():
            return _file(options) if options.input else _question(options)
    except (ScoreError, ModelError, UnsupportedModuleError) as error:
        print(f"python -m gnuq score: {error}", file=sys.stderr)
    except OSError as error:
        place = error.filename or options.output or "the standard output"
        kept = "What is scored is kept: f" if options.input else "F"
        print(
            f"python -m gnuq score: {error.strerror or error} ({place}). {kept}ree space or mend "
            "it, and run the same command again.",
            file=sys.stderr,
        )
    return 2


def _fit_together(options: argparse.Namespace) -> None:
    """Refuse options that would have no effect, before anything is loaded."""
    many = options.input is not None
    if not many and options.question is None:
        raise ScoreError("--question or --input: give a question, or a file of them.")
    alien = ("question", "answer", "calibration", "json") if many else ("output",)
    for name in alien:
        if getattr(options, name) not in (None, False):
            raise ScoreError(
                f"--{name}: it has no place {'beside' if many else 'without'} --input."
            )
    if many and options.output is None:
        raise ScoreError("--output: name the parquet file for the scores.")
    if options.max_new_tokens < 1:
        raise ScoreError(f"--max-new-tokens: {options.max_new_tokens} is below 1.")


def quiet() -> None:
    """No progress bars and notes of the libraries: the report is the output."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _load(options: argparse.Namespace) -> Loaded:
    try:
        return load(
            options.model,
            revision=options.revision,
            quantisation=options.quantisation,
            dtype=options.dtype,
            device=options.device,
        )
    except ValueError as error:  # an unknown name, revision or device
        raise ScoreError("--" + str(error).replace("name:", "model:", 1)) from error


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        model=(
            options.model,
            options.revision,
            options.quantisation,
            options.dtype,
            options.device,
        ),
        objective=options.objective,
        params=options.params,
        chat=options.chat,
        max_new_tokens=options.max_new_tokens,
        memory=options.memory,
    )


def _question(options: argparse.Namespace) -> int:
    calibration = None if options.calibration is None else Calibration.load(options.calibration)
    loaded, settings = _load(options), _settings(options)
    models.ready(loaded.model, loaded.tokenizer)
    told = {"question": options.question}
    if options.answer is not None:
        told["answer"] = options.answer
    prompt, answer = asked(told, settings.chat)
    if answer is None:
        ends = frozenset(texts.ends(loaded.model, loaded.tokenizer))
        ids = Encoder(loaded.tokenizer, settings.chat, ends=ends).prompt(prompt)
        answer = _greedy(loaded, ids, settings.max_new_tokens)
    scores = score(
        loaded.model,
        loaded.tokenizer,
        [prompt],
        [answer],
        objective=settings.objective,
        params=settings.params,
        chat=settings.chat,
        memory=settings.memory,
    )
    _show(options, loaded, scores, calibration)
    return 0


def _greedy(loaded: Loaded, prompt: tuple[int, ...], length: int) -> tuple[int, ...]:
    found, wrong = greedy(loaded.model, loaded.tokenizer, {0: prompt}, length)
    if wrong:
        raise ScoreError(f"--question: {wrong[0]}; or give an answer with --answer.")
    return found[0].answer


def _show(
    options: argparse.Namespace, loaded: Loaded, scores: Scores, calibration: Calibration | None
) -> None:
    row = {str(name): value for name, value in scores.to_frame().iloc[0].to_dict().items()}
    told = _meaning(loaded, scores, calibration)
    split = scores.objective == "mean_probability"
    tokens = scores.by_token(0) if split else None
    if options.json:
        print(json.dumps(_as_json(options, loaded, row, told, tokens), ensure_ascii=False))
        return
    print(
        report.report(
            options.question,
            tokens,
            row,
            {name: text for name, (text, _) in told.items()},
            model=_described(loaded),
            objective=scores.objective,
            colour=report.coloured(sys.stdout),
        )
    )


def _described(loaded: Loaded) -> str:
    """The model, how its weights are stored, and at which revision."""
    parts = [loaded.quantisation or loaded.dtype]
    if loaded.revision is not None:
        parts.append(loaded.revision[:19])
    return f"{loaded.name} ({', '.join(parts)})"


def _meaning(
    loaded: Loaded, scores: Scores, calibration: Calibration | None
) -> dict[str, tuple[str, float]]:
    """What the level of each score means, in words and as a number, where that is known."""
    found: dict[str, tuple[str, float]] = {}
    of = "the calibration's answers"
    if calibration is None and (scores.objective, scores.params) == ("mean_probability", "all"):
        known = reference.find(loaded)
        if known is not None:
            calibration, of = known.calibration, known.of
    if calibration is None:
        return found
    for name in calibration.reference:
        share = float(calibration.percentile(scores, name)[0])
        found[name] = (f"higher than {share:.0f} % of {of}", share)
    if calibration.coefficients:
        wrong = float(calibration.probability_wrong(scores)[0])
        found["mean_probability"] = (f"probability of being wrong: {wrong:.0%}", wrong)
    return found


def _as_json(
    options: argparse.Namespace,
    loaded: Loaded,
    row: Mapping[str, Any],
    told: Mapping[str, tuple[str, float]],
    tokens: pd.DataFrame | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": loaded.name,
        "revision": loaded.revision,
        "quantisation": loaded.quantisation,
        "question": options.question,
        "objective": options.objective,
        "params": options.params,
        **{name: None if value == -math.inf else value for name, value in row.items()},
        "meaning": {name: {"text": text, "value": value} for name, (text, value) in told.items()},
    }
    if tokens is not None:
        answer = tokens[tokens.part == "answer"].drop(columns="part")
        found["tokens"] = answer.to_dict("records")
    return found


def _file(options: argparse.Namespace) -> int:
    with console.bar() as progress:
        table = files.score_file(
            Path(options.input),
            Path(options.output),
            _settings(options),
            lambda: _pair(_load(options)),
            progress,
        )
    bad = table[table.error.notna()]
    for line, error in zip(bad.line, bad.error, strict=True):
        print(f"{options.input}, line {line}: {error}", file=sys.stderr)
    print(f"{len(table) - len(bad)} answers scored, {len(bad)} not: {options.output}")
    return 1 if len(bad) else 0


def _pair(loaded: Loaded) -> tuple[Any, Any]:
    return loaded.model, loaded.tokenizer
