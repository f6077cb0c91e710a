"""One module's source as a syntax tree: what its names stand for, and what a statement uses."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

Definition = tuple[str, str]  # (module, name); the empty name is the module itself

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NOT_HASHED = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx"}


class FingerprintError(LookupError):
    """The code cannot be followed: no such module, function or entry of a table."""


@dataclass
class Module:
    """A module that has been parsed.

    Attributes:
        name: dotted.
        tree: its syntax tree.
        is_package: whether its file is an `__init__.py`.
    """

    name: str
    tree: ast.Module
    is_package: bool

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """Name → the top-level statements that bind it, in order; imports left out."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            for name in _bound(statement):
                found.setdefault(name, []).append(statement)
        return found

    @cached_property
    def imports(self) -> dict[str, Definition]:
        """Name → (module, name) for every import outside functions and classes."""
        statements = [s for s in self.tree.body if not isinstance(s, SCOPES)]
        return dict(self.imported(statements))

    @cached_property
    def effects(self) -> list[ast.stmt]:
        """Top-level statements that do more than bind names, for whoever imports the module.

        A decorated function or class is one: its decorator may register it somewhere.
        """
        return [s for s in self.tree.body if self._acts(s)]

    def _acts(self, statement: ast.stmt) -> bool:
        if isinstance(statement, SCOPES):
            names = {chain[0] for d in statement.decorator_list for chain in chains(d)}
            return bool(names & self.definitions.keys()) or any(
                self.imports.get(name, ("", ""))[0].partition(".")[0] == self.name.partition(".")[0]
                for name in names
            )
        if isinstance(statement, ast.Import | ast.ImportFrom) or is_text(statement):
            return False
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            return not all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
        return not _only_for_tools(statement)

    def imported(self, statements: Iterable[ast.stmt]) -> Iterator[tuple[str, Definition]]:
        """The imports in some statements: the name that is bound, and what it stands for."""
        for node in (node for statement in statements for node in ast.walk(statement)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    yield alias.asname or top, (alias.name if alias.asname else top, "")
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        raise FingerprintError(
                            f"{self.name}, line {node.lineno}: `import *` cannot be followed; "
                            "name what is imported."
                        )
                    yield alias.asname or alias.name, (self._absolute(node), alias.name)

    def _absolute(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - statement.level + self.is_package]
        return ".".join([*kept, *filter(None, [statement.module])])

    def narrowed(self, name: str, keys: tuple[str, ...]) -> ast.Dict:
        """The entries of a dictionary literal that have these keys, in the keys' order.

        Raises:
            FingerprintError: the name is no dictionary literal, or a key is not in it.
        """
        table = self._value(name)
        if not isinstance(table, ast.Dict):
            raise FingerprintError(f"choose: {self.name}.{name} is not a dictionary literal.")
        pairs = zip(table.keys, table.values, strict=True)
        entries = {self._text(key): (key, value) for key, value in pairs}
        absent = [key for key in keys if key not in entries]
        if absent:
            raise FingerprintError(f"choose: {self.name}.{name} has no entry {absent[0]!r}.")
        kept = [entries[key] for key in keys]
        return ast.Dict([key for key, _ in kept], [value for _, value in kept])

    def _value(self, name: str) -> ast.expr | None:
        bound = self.definitions.get(name, [])
        return getattr(bound[0], "value", None) if len(bound) == 1 else None

    def _text(self, key: ast.expr | None) -> str | None:
        """A key's text: a string, or a name at the module's top that holds one."""
        literal = self._value(key.id) if isinstance(key, ast.Name) else key
        return str(literal.value) if isinstance(literal, ast.Constant) else None


def chains(statement: ast.AST) -> Iterator[tuple[str, ...]]:
    """The dotted names in a statement, each at its full length: `a.b.c`, never also `a.b`."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            yield (node.id, *reversed(names))
        waiting += ast.iter_child_nodes(node)


def canonical(node: ast.AST) -> str:
    """A syntax tree as text that does not depend on Python's version.

    Strings that stand alone (docstrings), annotations and positions are left out.
    """
    parts = []
    for name, value in ast.iter_fields(node):
        if name in NOT_HASHED or value is None or value == []:
            continue
        if isinstance(value, list):
            told = ",".join(_canonical(item) for item in value if not is_text(item))
        else:
            told = _canonical(value)
        parts.append(f"{name}={told}")
    return f"{type(node).__name__}({';'.join(parts)})"


def _canonical(value: object) -> str:
    return canonical(value) if isinstance(value, ast.AST) else repr(value)


def is_text(node: object) -> bool:
    """Whether a statement is a string by itself: it does nothing, it tells."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _only_for_tools(statement: ast.stmt) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == …:`, which no import runs."""
    if not isinstance(statement, ast.If):
        return False
    names = {chain[-1] for chain in chains(statement.test)}
    return bool(names & {"TYPE_CHECKING", "__name__"})


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement binds, other than by import."""
    if isinstance(statement, SCOPES):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
    elif isinstance(statement, ast.If | ast.With | ast.Try):
        for child in ast.iter_child_nodes(statement):
            inner = child.body if isinstance(child, ast.ExceptHandler) else [child]
            for node in inner:
                if isinstance(node, ast.stmt):
                    yield from _bound(node)
