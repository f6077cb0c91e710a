"""One answer's scores for a terminal: its tokens coloured by what they add to the uncertainty."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

import pandas as pd

#: Background colours from little to much, in the terminal's 256; dark text stays readable on all.
SCALE = (255, 230, 229, 223, 222, 216, 215, 209)
_BLACK = 16
SYMBOLS = {
    "mean_probability": "‖∇p̄‖²",
    "mean_log_probability": "‖∇ mean log p‖²",
    "joint_probability": "‖∇ Π p‖²",
    "token_average": "mean ‖∇p_t‖²",
}


def coloured(stream: IO[str]) -> bool:
    """Whether colours make sense: a terminal, and nobody asked to leave them out (NO_COLOR)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def answer_line(tokens: pd.DataFrame, colour: bool) -> str:
    """The answer's tokens one after the other, on a background that says how much each adds."""
    answer = tokens[tokens.part == "answer"]
    pieces = [printable(token) for token in answer.token]
    pieces[0] = pieces[0].lstrip()
    if not colour:
        return "".join(pieces)
    most = max(float(answer.share.max()), 1e-300)
    cells = []
    for token, share in zip(pieces, answer.share, strict=True):
        level = SCALE[round(max(float(share), 0.0) / most * (len(SCALE) - 1))]
        cells.append(f"\033[48;5;{level};38;5;{_BLACK}m{token}\033[0m")
    return "".join(cells)


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def token_table(tokens: pd.DataFrame, total: float) -> str:
    """Token, probability and share of the epistemic score, one line a token of the answer."""
    answer = tokens[tokens.part == "answer"]
    width = max(len(repr(t)) for t in answer.token)
    lines = [f"  {'token':<{width}}  probability  share of ‖∇p̄‖²"]
    shares = answer.share / total if total else answer.share
    for token, p, share in zip(answer.token, answer.probability, shares, strict=True):
        bar = "█" * round(20 * max(share, 0.0))
        lines.append(f"  {token!r:<{width}}  {p:11.3f}  {share:7.1%}  {bar}".rstrip())
    return "\n".join(lines)


def report(
    question: str,
    tokens: pd.DataFrame | None,
    scores: Mapping[str, Any],
    told: Mapping[str, str],
    *,
    model: str,
    objective: str,
    colour: bool,
) -> str:
    """The whole report.

    Args:
        question: what was asked.
        tokens: as `Scores.by_token` gives them; None for objectives that it does not split.
        scores: `answer`, `epistemic`, `aleatoric`, `mean_probability`, `length`, `length_free`.
        told: by score, what its level means ("higher than 72 % of …"), where that is known.
        model: what the model is.
        objective: what was differentiated.
        colour: whether to colour the tokens.
    """
    rows = (
        ("epistemic", SYMBOLS[objective], f"{scores['epistemic']:.3g}"),
        ("", f"T × {SYMBOLS[objective]}", f"{scores['length_free']:.3g}"),
        ("aleatoric", "mean p(1−p)", f"{scores['aleatoric']:.3g}"),
        ("mean probability", "p̄", f"{scores['mean_probability']:.3f}"),
        ("length", "tokens", f"{scores['length']:.0f}"),
    )
    answer = (
        printable(str(scores["answer"]).lstrip()) if tokens is None else answer_line(tokens, colour)
    )
    lines = [model, "", f"Q: {printable(question)}", f"A: {answer}", ""]
    for name, symbol, value in rows:
        key = name.replace(" ", "_")
        lines.append(f"  {name:<17} {symbol:<20} {value:>9}   {told.get(key, '')}".rstrip())
    if tokens is not None:
        lines += ["", token_table(tokens, scores["epistemic"])]
    return "\n".join(lines)
