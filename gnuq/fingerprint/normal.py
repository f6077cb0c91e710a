"""A statement as text that says what it does, whatever it and its surroundings are called.

Where another definition of the project is named stands a mark; names from outside stand in full;
local variables are numbered. Left out are docstrings, annotations, the name that a definition is
bound to, and the words of an error.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gnuq.fingerprint.source import NOT_HASHED, SCOPES, Definition, is_text

#: What a dotted name stands for: definitions of the project, of which a module that is handed on
#: has several, or a name from outside in full; and the attributes that are left.
Meaning = tuple[tuple[Definition, ...] | str, tuple[str, ...]]
#: From an import's target, None for a name of the module's own, and a dotted name to its meaning.
Resolve = Callable[[Definition | None, tuple[str, ...]], Meaning]

MARK = "§"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Normal:
    """A definition without names.

    Attributes:
        text: with a mark for every reference.
        references: what the marks stand for, in their order.
        annotations: what annotations name: it is used, but where does not count.
    """

    text: str = ""
    references: list[tuple[Definition, ...]] = field(default_factory=list)
    annotations: set[Definition] = field(default_factory=set)

    @property
    def used(self) -> set[Definition]:
        """Every definition that is named."""
        return {d for reference in self.references for d in reference} | self.annotations


def normal(
    statements: Iterable[ast.AST],
    own: str,
    resolve: Resolve,
    imported: Callable[[ast.stmt], Iterable[tuple[str, Definition]]],
) -> Normal:
    """The statements that bind a name at the top of a module, or its effects.

    Args:
        statements: in order.
        own: the name that they bind; empty for effects.
        resolve: says what a name stands for that no function binds.
        imported: the names that an import statement binds.
    """
    writer = _Writer(own, resolve, imported)
    writer.found.text = "\n".join([writer.told(statement) for statement in statements])
    return writer.found


@dataclass
class _Writer:
    """Writes one definition; `scopes` holds what each function around binds, innermost last."""

    own: str
    resolve: Resolve
    imported: Callable[[ast.stmt], Iterable[tuple[str, Definition]]]
    found: Normal = field(default_factory=Normal)
    scopes: list[dict[str, str | Definition]] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    count: int = 0

    def told(self, node: object) -> str:
        """Any part of a syntax tree."""
        if isinstance(node, list):
            return ",".join([self.told(item) for item in node if not is_text(item)])
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Name | ast.Attribute):
            return self._name(node)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
            return ""
        if isinstance(node, _FUNCTIONS):
            return self._function(node)
        if isinstance(node, ast.ClassDef):
            return self._class(node)
        if isinstance(node, _COMPREHENSIONS):
            return self._comprehension(node)
        if isinstance(node, ast.Raise):
            node = ast.Raise(_wordless(node.exc), node.cause)
        if isinstance(node, ast.Assert):
            node = ast.Assert(node.test, None)
        return self._fields(node)

    def _fields(self, node: ast.AST, without: Sequence[str] = ()) -> str:
        parts = []
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns") and value is not None:
                self._annotation(value)
            if name in NOT_HASHED or name in without or value is None or value == []:
                continue
            bound = name in ("name", "rest") and isinstance(value, str)
            parts.append(f"{name}={self._bound(value) if bound else self.told(value)}")
        return f"{type(node).__name__}({';'.join(parts)})"

    def _annotation(self, node: ast.AST) -> None:
        """What it names is used; it is not written down."""
        aside = _Writer(
            self.own, self.resolve, self.imported, scopes=self.scopes, classes=self.classes
        )
        aside.told(node)
        self.found.annotations |= aside.found.used

    def _name(self, node: ast.Name | ast.Attribute) -> str:
        attributes: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            attributes.insert(0, inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            return ".".join([self.told(inner), *attributes])
        if not self.scopes and isinstance(inner.ctx, ast.Store):
            return self._bound(inner.id)
        return self._dotted(inner.id, tuple(attributes))

    def _dotted(self, first: str, attributes: tuple[str, ...]) -> str:
        local = self._local(first)
        if isinstance(local, str):
            return ".".join([local, *attributes])
        meaning, rest = self.resolve(local, (first, *attributes))
        if isinstance(meaning, str):
            return ".".join([f"outside:{meaning}", *rest])
        self.found.references.append(meaning)
        return ".".join([MARK, *rest])

    def _local(self, name: str) -> str | Definition | None:
        """What a function around binds a name to; a class's names are not seen in its methods."""
        for depth in reversed(range(len(self.scopes))):
            hidden = depth in self.classes and depth != len(self.scopes) - 1
            if name in self.scopes[depth] and not hidden:
                return self.scopes[depth][name]
        return None

    def _bound(self, name: str) -> str:
        """A name where it is bound: a number in a function, itself in a class."""
        if self.scopes:
            known = self._local(name)
            return known if isinstance(known, str) else name
        return "own" if name == self.own else "other"

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> str:
        """Decorators and defaults belong to the scope around."""
        arguments, outside = node.args, []
        for argument in _arguments(arguments):
            if argument.annotation is not None:
                self._annotation(argument.annotation)
        if not isinstance(node, ast.Lambda):
            outside.append(self.told(node.decorator_list))
            if node.returns is not None:
                self._annotation(node.returns)
            outside.append(self._bound(node.name) if self.scopes else "")
        outside += [self.told(arguments.defaults), self.told(arguments.kw_defaults)]
        names = [argument.arg for argument in _arguments(arguments)]
        shape = [len(arguments.posonlyargs), len(arguments.args), len(arguments.kwonlyargs)]
        stars = [arguments.vararg is not None, arguments.kwarg is not None]
        body = node.body if isinstance(node.body, list) else [node.body]
        self._enter(names, body)
        inside = self.told(body)
        self.scopes.pop()
        return f"{type(node).__name__}({outside};{names};{shape};{stars};{inside})"

    def _class(self, node: ast.ClassDef) -> str:
        """A class's own names are attributes, which others use by name."""
        name = self._bound(node.name) if self.scopes else ""
        outside = [name, *(self.told(x) for x in (node.decorator_list, node.bases, node.keywords))]
        self.classes.append(len(self.scopes))
        self.scopes.append({name: f".{name}" for name in _binds(node.body, self.imported)})
        inside = self.told(node.body)
        self.scopes.pop()
        self.classes.pop()
        return f"ClassDef({outside};{inside})"

    def _comprehension(self, node: ast.AST) -> str:
        """The first iterable belongs to the scope around."""
        first = self.told(node.generators[0].iter)  # type: ignore[attr-defined]
        targets = [generator.target for generator in node.generators]  # type: ignore[attr-defined]
        self._enter([], targets)
        rest = [self._fields(node, without=("generators",))]
        for number, generator in enumerate(node.generators):  # type: ignore[attr-defined]
            rest.append(self._fields(generator, without=("iter",) if number == 0 else ()))
        self.scopes.pop()
        return f"{first};{';'.join(rest)}"

    def _enter(self, arguments: Sequence[str], body: Sequence[ast.AST]) -> None:
        """A function's scope: arguments keep their names, which callers use."""
        scope: dict[str, str | Definition] = {name: f":{name}" for name in arguments}
        for name, target in _binds(body, self.imported).items():
            if target is not None:
                scope[name] = target
            elif name not in scope:
                scope[name] = f"local {self.count}"
                self.count += 1
        self.scopes.append(scope)


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg]
    every = [*named, *arguments.kwonlyargs, arguments.kwarg]
    return [argument for argument in every if argument is not None]


def _binds(
    body: Sequence[ast.AST], imported: Callable[[ast.stmt], Iterable[tuple[str, Definition]]]
) -> dict[str, Definition | None]:
    """The names that a body binds, in order, with what an import binds them to."""
    found: dict[str, Definition | None] = {}
    elsewhere: set[str] = set()
    for node in _own(body):
        if isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere.update(node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= dict(imported(node))
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.setdefault(node.id, None)
        else:
            name = getattr(node, "name", None) or getattr(node, "rest", None)
            if isinstance(name, str):
                found.setdefault(name, None)
    return {name: target for name, target in found.items() if name not in elsewhere}


def _own(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Nodes of a scope in their order, not those of scopes inside, but for what `:=` binds."""
    for node in body:
        yield node
        if isinstance(node, SCOPES):
            continue
        if isinstance(node, _COMPREHENSIONS):
            yield from (x.target for x in ast.walk(node) if isinstance(x, ast.NamedExpr))
        elif not isinstance(node, ast.Lambda):
            yield from _own(list(ast.iter_child_nodes(node)))


def _wordless(error: ast.expr | None) -> ast.expr | None:
    """What is raised, without its words."""
    if not isinstance(error, ast.Call):
        return error
    kept = [argument for argument in error.args if not _words(argument)]
    keywords = [keyword for keyword in error.keywords if not _words(keyword.value)]
    return ast.Call(error.func, kept, keywords)


def _words(node: ast.expr) -> bool:
    """Whether an expression is a text that is put together here."""
    if isinstance(node, ast.BinOp):
        return _words(node.left) or _words(node.right)
    if isinstance(node, ast.IfExp):
        return _words(node.body) and _words(node.orelse)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("join", "format") and _words(node.func.value)
    return isinstance(node, ast.JoinedStr) or is_text(ast.Expr(node))
