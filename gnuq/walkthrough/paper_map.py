"""The paper map as a page: our numbers beside the paper's, and where both come from."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd

from gnuq import artefacts, paper, protocol
from gnuq.display import in_book
from gnuq.fingerprint import Code
from gnuq.paper import Item
from gnuq.results import CLASS_LABELS, LABELS, proxy_tables, text_summary

REPOSITORY = "https://github.com/gnuq/gnuq/blob"
Kind = Literal["table", "figure", "equation"]
#: Tables of ratios, not of correlations: item → ours and the paper's as text.
RATIOS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "table-3": proxy_tables.readable_ratios,
    "table-4": lambda table: text_summary.readable(table, "arithmetic"),
}


def counts() -> pd.DataFrame:
    """How many items are shown and how many are open, by kind and in all."""
    states = [(item.item.partition("-")[0], item.status) for item in paper.items().values()]
    rows = {
        f"{kind}s": {status: states.count((kind, status)) for status in ("shown", "open")}
        for kind in paper.COUNTS
    }
    table = pd.DataFrame(rows).T
    table.loc["all"] = table.sum()
    return table


def cards(kind: Kind) -> str:
    """The items of one kind as HTML, one card each."""
    chosen = [item for item in paper.items().values() if item.item.startswith(f"{kind}-")]
    return '<div class="gnuq-map">' + "".join(map(card, chosen)) + "</div>"


def card(item: Item) -> str:
    """One item: what it is, what computes it, where its numbers lie, and the numbers."""
    head = escape(f"{item.label} · {item.title}")
    if item.anchor:
        head = f'<a href="{page_of(item)}">{head}</a>'
    parts = [
        f'<p class="gnuq-item-head"><span>{head}</span> '
        f'<span class="gnuq-{item.status}">{item.status}</span></p>',
        f'<p class="gnuq-item-line">Paper §{escape(item.section)}. {escape(item.reason)}</p>',
    ]
    if item.status == "shown":
        parts.append(f'<p class="gnuq-item-line">Computed by {_functions(item)}</p>')
        parts += [f'<p class="gnuq-item-line">{_source(name)}</p>' for name in item.artefacts]
    if item.note:
        parts.append(f'<p class="gnuq-item-line">{escape(item.note)}</p>')
    parts.append(_numbers(item))
    return f'<article class="gnuq-item" id="map-{item.item}">{"".join(parts)}</article>'


def page_of(item: Item) -> str:
    """The address of an item's place in the book, seen from the paper map's own page."""
    page, _, label = item.anchor.partition("#")
    return f"../{page}.{'html' if in_book() else 'md'}#{label}"


@cache
def revision() -> str:
    """The commit that is checked out, for links that stay true; `main` outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, cwd=artefacts.ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "main"
    return done.stdout.strip()


@cache
def _code() -> Code:
    return Code(artefacts.ROOT, ("gnuq", "benchmarks"))


def _functions(item: Item) -> str:
    links = []
    for dotted in item.functions:
        path, first, last = _code().lines(dotted)
        address = path.relative_to(artefacts.ROOT).as_posix()
        links.append(_link(f"{address}#L{first}-L{last}", dotted, f"lines {first} to {last}"))
    return ", then ".join(links)


def _link(address: str, name: str, told: str) -> str:
    target = escape(f"{REPOSITORY}/{revision()}/{address}")
    return f'<a href="{target}"><code>{escape(name)}</code></a> ({escape(told)})'


def _source(artefact: str) -> str:
    """Where numbers lie, what made them, and how many there are."""
    head, _, name = artefact.partition("/")
    kind: artefacts.Kind = "records" if head == "records" else "results"
    path, told = artefacts.path_of(kind, name), artefacts.provenance(kind, name)
    address = path.relative_to(artefacts.ROOT).as_posix()
    made = f"{told['rows']} rows, made {told['created'][:10]} in {_duration(told['seconds'])}"
    commit = str(told["commit"])[:7]
    told_by = _link(address.rpartition(".")[0] + ".json", "provenance", f"commit {commit}")
    return f"Numbers in {_link(address, artefact, made)}, {told_by}. {settings(told)}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under a second"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def settings(told: dict[str, Any]) -> str:
    """The settings of an artefact in one sentence, as its provenance has them."""
    configuration, report = told["configuration"], told["report"]
    if "sampler" in configuration:
        sampler = configuration["sampler"]
        return (
            f"{configuration['parameters']} parameters, {configuration['points']} training points, "
            f"noise {configuration['noise']:g}, {sampler['chains']} chains of {sampler['draws']}; "
            f"r̂ ≤ {report['r_hat_max']:.4f}, ESS ≥ {report['effective_samples_min']:.0f}."
        )
    if "prior" in configuration:
        label = protocol.PRIOR_LABELS[configuration["prior"]]
        return f"Prior {label}; whole grid; first start of the training."
    if "map_seeds" in configuration:
        records = sum(name.startswith("records/") for name in told["inputs"])
        return f"{records} posteriors, {len(configuration['map_seeds'])} starts of the training."
    return ""


def beside(item: Item) -> pd.DataFrame:
    """Our numbers beside the paper's, for a table of correlations.

    Returns:
        One row per printed pair: ours and the paper's, their differences, and n, the number of
        data seeds. Empty if there is nothing to compare.
    """
    named = bool(item.artefacts) and item.artefacts[0].startswith("results/table-")
    if not named:
        return pd.DataFrame()
    found = artefacts.load("results", item.artefacts[0].removeprefix("results/")).frame
    if "r_paper" not in found:  # a table of something else
        return pd.DataFrame()
    kept = found[found["r_paper"].notna()]
    labels = LABELS | CLASS_LABELS
    table = pd.DataFrame(
        {
            "problem": kept["problem"],
            "what": [labels.get(str(name), str(name)) for name in kept["comparison"]],
            "n": kept["n"],
        }
    )
    for short, name in (("r", "Pearson"), ("rho", "Spearman")):
        table[f"{name}, ours"] = kept[short]
        table["paper, 1st" if short == "r" else "paper, 2nd"] = kept[f"{short}_paper"]
        table[f"difference, {'1st' if short == 'r' else '2nd'}"] = (
            kept[short] - kept[f"{short}_paper"]
        )
    return table.reset_index(drop=True)


def _numbers(item: Item) -> str:
    """The numbers, folded: ours beside the paper's, or the paper's alone."""
    table = beside(item)
    if not table.empty:
        worst = np.nanmax(table.filter(like="difference").abs().to_numpy())
        head = f"Ours beside the paper’s: {len(table)} pairs, at most {worst:.2f} apart"
        formats = {str(n): "{:+.2f}" for n in table if str(n).startswith("difference")}
        body = _html(table, formats)
    elif item.item in RATIOS and item.status == "shown":
        found = artefacts.load("results", item.item).frame
        head, body = "Ours beside the paper’s", _html(RATIOS[item.item](found).reset_index(), {})
    elif item.printed:
        head, body = "What the paper prints", _html(_printed(item), {})
    else:
        return ""
    return f"<details><summary>{escape(head)}</summary>{body}</details>"


def _printed(item: Item) -> pd.DataFrame:
    """The paper's numbers of an open item as a table; pairs as text."""
    rows = {
        key: {
            name: ", ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in _listed(value))
            for name, value in row.items()
        }
        for key, row in item.printed.items()
    }
    return pd.DataFrame(rows).T.rename_axis("").reset_index()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _html(table: pd.DataFrame, formats: dict[str, str]) -> str:
    style: Any = table.style.hide(axis="index")
    return str(style.format(formats, precision=2).to_html(table_uuid=""))
