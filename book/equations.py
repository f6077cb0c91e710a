"""Below each of the paper's equations, the function that computes it, linked to the paper map.

A Sphinx extension. The paper map names each equation's functions and its label in the book; its
card links the very lines, so a reader gets from a formula to the code in two steps and back in one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MAP = "book/paper_map"
#: Extensions that do not say that pages may be read in parallel; neither acts on a page by itself.
SILENT = ("sphinx-mathjax-offline", "sphinx_multitoc_numbering")


def computed(source: Path) -> dict[str, tuple[str, str]]:
    """Where the paper map shows equations: page#label → the item, and the function to read.

    Args:
        source: the book's root.
    """
    items = yaml.safe_load((source / f"{MAP}.yml").read_text(encoding="utf-8"))
    return {
        item["anchor"]: (item["item"], item["functions"][0])
        for item in items
        if item["item"].startswith("equation-") and item["status"] == "shown"
    }


def link_equations(app: Sphinx, doctree: nodes.document) -> None:
    """Add the line below every equation of a page that the paper map shows there."""
    page = app.env.docname
    target = app.builder.get_relative_uri(page, MAP)
    for block in list(doctree.findall(nodes.math_block)):
        for label in block["ids"]:
            item, function = app.env.gnuq_equations.get(f"{page}#{label}", (None, ""))
            if item is None:
                continue
            link = nodes.reference("", "", refuri=f"{target}#map-{item}", internal=True)
            link += nodes.literal("", function)
            line = nodes.paragraph("", "Computed by ", link, classes=["gnuq-computed"])
            block.parent.insert(block.parent.index(block) + 1, line)


def read_map(app: Sphinx, env: Any, _: list[str]) -> None:
    """Read the paper map before the pages, and let the pages be read in parallel."""
    env.gnuq_equations = computed(Path(app.srcdir))
    for name in SILENT:
        app.extensions[name].parallel_read_safe = True


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx when to call."""
    app.connect("env-before-read-docs", read_map)
    app.connect("doctree-read", link_equations)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
