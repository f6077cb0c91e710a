"""Digests by content: a definition's text with the digests of what it names in the place of names.

Definitions that name each other in a circle have none to begin with: each first gets the digest of
its text alone, which is refined by those of its neighbours as often as the circle is long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from gnuq.fingerprint.normal import Normal
from gnuq.fingerprint.source import Definition


def hashed(*parts: str) -> str:
    """SHA-256 of some texts, kept apart."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(f"{len(part)}:{part}".encode())
    return whole.hexdigest()


#: Of a definition that does nothing: a module without effects.
NOTHING = hashed("")


def by_content(nodes: Mapping[Definition, Normal]) -> dict[Definition, str]:
    """The digest of every definition.

    Args:
        nodes: definitions, with everything that they name.
    """
    found: dict[Definition, str] = {}
    for circle in circles({d: node.used for d, node in nodes.items()}):
        alone = len(circle) == 1 and circle[0] not in nodes[circle[0]].used
        inside = {} if alone else {d: hashed(nodes[d].text) for d in circle}
        for _ in circle:
            known = {**inside}
            inside = {d: _digest(nodes[d], found, known) for d in circle}
        found |= inside
    return found


def _digest(node: Normal, found: Mapping[Definition, str], inside: Mapping[Definition, str]) -> str:
    """Of one definition; digests of its own circle are looked up first."""
    if not node.text and not node.used:
        return NOTHING

    def of(definition: Definition) -> str:
        return inside.get(definition) or found[definition]

    marks = [hashed(*sorted(map(of, reference))) for reference in node.references]
    return hashed(node.text, *marks, "annotations", *sorted(set(map(of, node.annotations))))


def circles(graph: Mapping[Definition, set[Definition]]) -> Iterator[list[Definition]]:
    """Definitions that reach each other, group by group, what a group uses before it.

    Tarjan's algorithm, without recursion.
    """
    index: dict[Definition, int] = {}
    low: dict[Definition, int] = {}
    stack: list[Definition] = []
    waiting: set[Definition] = set()
    for root in graph:
        path = [] if root in index else [(root, iter(graph[root]))]
        while path:
            here, following = path[-1]
            if here not in index:
                index[here] = low[here] = len(index)
                stack.append(here)
                waiting.add(here)
            for there in following:
                if there not in index:
                    path.append((there, iter(graph[there])))
                    break
                if there in waiting:
                    low[here] = min(low[here], index[there])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    low[above] = min(low[above], low[here])
                if low[here] == index[here]:
                    group = stack[stack.index(here) :]
                    del stack[stack.index(here) :]
                    waiting.difference_update(group)
                    yield group
