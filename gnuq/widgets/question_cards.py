"""One question as HTML: for the explorer, and for the website, which has no kernel.

The same markup is read in either theme, by keyboard and on a phone: what opens and closes is the
browser's own `details`, colours are the site's with others to fall back on, and every bar stands
beside its number.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from gnuq.figures.question_curves import BENCHMARKS
from gnuq.walkthrough.quoted_answers import Quoted, extremes
from gnuq.walkthrough.single_questions import LABELS, Single

#: What a criterion's columns say, in words.
EVIDENCE = {
    "to_correct": "cosine with the nearest correct reference",
    "to_incorrect": "cosine with the nearest incorrect reference",
    "matches": "accepted answers that stand in it",
    "said": "the judge said",
}
STYLE = """<style>
.gnuq-single { font-family: var(--gnuq-sans, sans-serif); font-size: .9rem; line-height: 1.5;
  --line: var(--gnuq-grid, #8886); --bar: var(--gnuq-epistemic, #3d8ec9); min-width: 0; }
.gnuq-single p { margin: .5rem 0; }
.gnuq-single .head { font-weight: 620; margin: 1rem 0 .3rem; }
.gnuq-single .said { font-size: 1.05rem; overflow-wrap: anywhere; }
.gnuq-single ul, .gnuq-single ol { list-style: none; margin: 0; padding: 0; }
.gnuq-single ol { display: flex; flex-wrap: wrap; gap: .4rem; }
.gnuq-single ol li { background: linear-gradient(to right, var(--bar) var(--share), #0000 0)
  bottom left / 100% 4px no-repeat; border: 1px solid var(--line); border-radius: 6px;
  display: flex; flex-direction: column; margin: 0; padding: .2rem .5rem .5rem; }
.gnuq-single ol b { white-space: pre-wrap; }
.gnuq-single small { font-variant-numeric: tabular-nums; line-height: 1.35; }
.gnuq-single ul li { border-left: 3px solid var(--line); margin: .3rem 0; overflow-wrap: anywhere;
  padding-left: .6rem; }
.gnuq-single table { margin: .3rem 0; }
.gnuq-single table :is(th, td) { text-align: left; }
.gnuq-single table td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.gnuq-single td i { background: linear-gradient(to right, var(--bar) var(--share), var(--line) 0);
  border-radius: 3px; display: inline-block; height: .5rem; margin-right: .5rem;
  width: clamp(3rem, 15vw, 7rem); }
.gnuq-single details { border: 0; border-top: 1px solid var(--line); padding: .2rem 0; }
.gnuq-single summary { cursor: pointer; min-height: 2rem; overflow-wrap: anywhere;
  padding: .3rem 0; }
.gnuq-quoted { margin: 0; }
.gnuq-quoted figcaption { border-top: 1px solid var(--gnuq-grid, #8886); margin-top: .5rem;
  color: var(--gnuq-muted, inherit); font: .88rem/1.55 var(--gnuq-sans, sans-serif);
  padding-top: .6rem; text-align: left; }
.gnuq-single summary:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
</style>"""


def card(single: Single) -> str:
    """One question whole: question, answer, verdict, tokens, samples, scores.

    Args:
        single: as `gnuq.walkthrough.single_questions.view` gives it.
    """
    return STYLE + f'<div class="gnuq-single mathjax_ignore">{_body(single)}</div>'


def page(quoted: Quoted) -> str:
    """All quoted answers, one open at a time.

    Args:
        quoted: as `gnuq.walkthrough.quoted_answers.quoted` gives it.
    """
    parts: list[str] = []
    for kind, several in quoted.items():
        for one in several:
            told = f"<strong>{_text(kind)}</strong> · {_benchmark(one)} · {_mark(one)} · "
            parts.append(
                f'<details name="gnuq-quoted"{"" if parts else " open"}>'
                f"<summary>{told}“{_text(_short(one.answer))}”</summary>"
                f"{_body(one)}</details>"
            )
    caption = f"<figcaption>{_text(finding(quoted))}</figcaption>"
    return (
        f'{STYLE}<figure class="gnuq-quoted mathjax_ignore" id="fig-single">'
        f'<div class="gnuq-single">{"".join(parts)}</div>{caption}</figure>'
    )


def finding(quoted: Quoted) -> str:
    """What the quoted answers show, in a sentence or two.

    Args:
        quoted: as for `page`.
    """
    wrong, right = extremes(quoted)
    several = [one for group in quoted.values() for one in group]
    told = (
        f"{len(several)} answers of {several[0].model}. By ‖∇p̄‖² the most confident of the wrong "
        f"ones stands at percentile {100 * wrong:.0f} of uncertainty, the most uncertain of the "
        f"right ones at percentile {100 * right:.0f}."
    )
    return told + (" Neither end of the score is a verdict." if wrong < right else "")


def number(value: float) -> str:
    """Three significant digits, without powers of ten where they can be spared."""
    if math.isnan(value):
        return "–"
    if not 1e-3 <= abs(value) < 1e6 and value != 0:
        return f"{value:.2e}".replace("-", "−")
    rounded = float(f"{value:.3g}")
    whole = value == round(value)
    digits = 0 if whole else max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:.{digits}f}".replace("-", "−")


def _body(single: Single) -> str:
    parts = [*_asked(single), _verdict(single), *_tokens(single.tokens)]
    return "".join([*parts, *_samples(single.samples), _scores(single.scores)])


def _asked(single: Single) -> Iterator[str]:
    name = f"{_benchmark(single)} {_text(single.id)}"
    missing = "Its text is not at hand: set GNUQ_DATA to the folder that has the benchmark’s file."
    yield f'<p class="head">Question ({name})</p>'
    if single.question is None:
        yield f"<p>{missing}</p>"
    else:
        yield f'<p class="said">{_text(single.question)}</p>'
    if single.accepted:
        yield f"<p>First accepted answer: {_text(single.accepted)}</p>"
    yield f'<p class="head">Answer of {_text(single.model)}</p>'
    said = _text(single.answer) or "(none)"
    yield f'<p class="said">{said}{"" if single.finished else " … (not ended)"}</p>'


def _verdict(single: Single) -> str:
    told = [
        f"{EVIDENCE.get(name, name)} {number(value) if isinstance(value, float) else value}"
        for name, value in single.evidence.items()
        if not pd.isna(value)
    ]
    said = "; ".join([*told, *single.reasons])
    return f"<p><strong>{_mark(single)}</strong>{_text(f': {said}' if said else '')}</p>"


def _tokens(tokens: pd.DataFrame) -> Iterator[str]:
    """Each token with its probability and, once split, its share; the largest has a full bar."""
    if tokens.empty:
        return
    legend, frame = "Under each token: its probability p", tokens
    if "share" in tokens:
        legend += ", its share of ‖∇p̄‖² (the bar), and its own ‖∇p‖²"
        whole = tokens["share"].sum()
        frame = tokens.assign(share=tokens["share"] / whole if whole else 0.0)
    yield f'<p class="head">Tokens</p><p>{legend}.</p><ol>'
    for place, row in enumerate(frame.to_dict("records"), 1):
        below, bar = [f"p {row['probability']:.2f}"], 0.0
        if "share" in row:
            bar = max(row["share"], 0) / (frame["share"].max() or 1)
            below += [f"{row['share']:.0%}".replace("-", "−"), number(row["squared_norm"])]
        text = str(row.get("token", place)).strip(" ").replace("\n", "⏎") or "␣"
        lines = "".join(f"<small>{line}</small>" for line in below)
        yield f'<li style="--share: {bar:.0%}"><b>{_text(text)}</b>{lines}</li>'
    yield "</ol>"


def _samples(samples: pd.DataFrame) -> Iterator[str]:
    """Samples by cluster, the largest first; equal texts once, with how often."""
    sizes = samples[samples["cluster"] >= 0]["cluster"].value_counts()
    yield f'<p class="head">{len(samples)} samples in {len(sizes)} clusters of meaning</p><ul>'
    for cluster, size in sizes.items():
        counts = Counter(samples.loc[samples["cluster"] == cluster, "text"])
        texts = [f"{_text(text)}{f' (×{n})' if n > 1 else ''}" for text, n in counts.items()]
        yield f"<li><strong>{size}:</strong> {' · '.join(texts)}</li>"
    if left := int((samples["cluster"] < 0).sum()):
        yield f"<li><strong>{left}</strong> in no cluster</li>"
    yield "</ul>"


def _scores(scores: pd.DataFrame) -> str:
    rows = []
    for name, row in scores.iterrows():
        rank = row["percentile"]
        shown = "–" if math.isnan(rank) else f"{100 * rank:.0f}"
        bar = "" if math.isnan(rank) else f'<i style="--share: {rank:.0%}" aria-hidden="true"></i>'
        label = f'<th scope="row">{_text(LABELS[str(name)])}</th>'
        rows.append(f"<tr>{label}<td>{number(row['value'])}</td><td>{bar}{shown}</td></tr>")
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Score", "Value", "Percentile"))
    told = (
        "Percentile of uncertainty: the share of this model’s answers to the benchmark that the "
        "score finds less uncertain."
    )
    return (
        f'<p class="head">Scores</p><p>{told}</p><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _mark(single: Single) -> str:
    if single.correct is None:
        return "? undecided"
    return "✓ judged right" if single.correct else "✗ judged wrong"


def _benchmark(single: Single) -> str:
    return _text(BENCHMARKS.get(single.benchmark, single.benchmark))


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _text(text: str) -> str:
    return html.escape(text)
