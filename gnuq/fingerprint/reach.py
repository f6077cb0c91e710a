"""From an entry function to every definition that it reaches, and what they do together."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gnuq.fingerprint.content import NOTHING, by_content, hashed
from gnuq.fingerprint.normal import Meaning, Normal, normal
from gnuq.fingerprint.source import Definition, FingerprintError, Module, canonical, chains

Choice = Mapping[str, str | Sequence[str]]


@dataclass
class Code:
    """A package's source, read as it is needed.

    Attributes:
        root: the folder that holds the packages' folders.
        packages: their names; names from elsewhere are not followed.
    """

    root: Path
    packages: tuple[str, ...] = ("gnuq",)
    _modules: dict[str, Module | None] = field(default_factory=dict, repr=False)
    _read: dict[tuple, tuple[str, frozenset[Definition]]] = field(default_factory=dict, repr=False)
    _normals: dict[tuple, Normal] = field(default_factory=dict, repr=False)

    def reached(self, *entries: str, choose: Choice | None = None) -> dict[Definition, str]:
        """Every definition that the entries reach, with the hash of its own syntax tree.

        Args:
            entries: as for `fingerprint`.
            choose: as for `fingerprint`.
        """
        tables = self._tables(choose)
        waiting = [self.find(entry) for entry in entries]
        found: dict[Definition, str] = {}
        while waiting:
            definition = waiting.pop()
            if definition not in found:
                found[definition], used = self._follow(definition, tables.get(definition))
                waiting += used
        _demand_reached(tables, found, entries)
        return found

    def fingerprint(self, *entries: str, choose: Choice | None = None) -> str:
        """SHA-256 of what the entries compute, by content: names and places do not count.

        Args:
            entries: dotted names of functions, classes or constants, module included.
            choose: dotted name of a table (a dictionary literal at the top of a module) → the key
                or keys of the entries that count.

        Raises:
            FingerprintError: an entry, or a key of a table, does not exist.
        """
        found = self.digests(*entries, choose=choose)
        told = {found[self.find(entry)] for entry in entries}
        effects = {digest for (_, name), digest in found.items() if not name} - {NOTHING}
        return hashed(*sorted(told), "effects", *sorted(effects))

    def digests(self, *entries: str, choose: Choice | None = None) -> dict[Definition, str]:
        """Every definition that the entries reach, with the digest of all that it does.

        Args:
            entries: as for `fingerprint`.
            choose: as for `fingerprint`.
        """
        tables = self._tables(choose)
        nodes: dict[Definition, Normal] = {}
        waiting = [self.find(entry) for entry in entries]
        while waiting:
            definition = waiting.pop()
            if definition not in nodes:
                nodes[definition] = self._normal(definition, tables.get(definition))
                waiting += nodes[definition].used | self._run_by(definition[0])
        _demand_reached(tables, nodes, entries)
        return by_content(nodes)

    def differing(
        self, before: Code, *entries: str, choose: Choice | None = None
    ) -> list[Definition]:
        """The definitions by which what the entries compute differs from older code.

        First those whose own text is new or gone; if there are none, those that name another
        definition than before.

        Args:
            before: the older code.
            entries: as for `fingerprint`; of both.
            choose: likewise.
        """
        here, there = (code.digests(*entries, choose=choose) for code in (self, before))
        tables = self._tables(choose)
        texts = [
            {d: code._normal(d, tables.get(d)).text for d in found}
            for code, found in ((self, here), (before, there))
        ]
        changed = {d for d in here if here[d] not in {*there.values()}}
        gone = {d for d in there if there[d] not in {*here.values()}}
        own = {d for d in changed if texts[0][d] not in {*texts[1].values()}}
        own |= {d for d in gone if texts[1][d] not in {*texts[0].values()}}
        return sorted(own or changed or gone)

    def _tables(self, choose: Choice | None) -> dict[Definition, tuple[str, ...]]:
        return {
            self.find(table): (keys,) if isinstance(keys, str) else tuple(keys)
            for table, keys in (choose or {}).items()
        }

    def _normal(self, definition: Definition, keys: tuple[str, ...] | None) -> Normal:
        if (definition, keys) not in self._normals:
            module, name = definition
            source, statements = self._known(module), self._statements(definition, keys)

            def imported(statement: ast.stmt) -> list[tuple[str, Definition]]:
                return list(source.imported([statement]))

            meaning = partial(self._meaning, source)
            self._normals[definition, keys] = normal(statements, name, meaning, imported)
        return self._normals[definition, keys]

    def _meaning(
        self, source: Module, target: Definition | None, dotted: tuple[str, ...]
    ) -> Meaning:
        """What a dotted name in a module stands for; see `normal`."""
        first, rest = dotted[0], dotted[1:]
        start = target or source.imports.get(first)
        found = self._resolve(*(start or (source.name, first)))
        if found is None:
            return ".".join(filter(None, start)) if start else first, rest
        while not found[1] and rest and (inner := self._resolve(found[0], rest[0])) is not None:
            found, rest = inner, rest[1:]
        return tuple(self._whole(found)), rest

    def find(self, dotted: str) -> Definition:
        """The module that defines a dotted name, and the name there: re-exports are followed."""
        module, _, name = dotted.rpartition(".")
        found = self._resolve(module, name)
        if found is None:
            raise FingerprintError(f"{dotted!r}: nothing of that name in {self.root}.")
        return found

    def lines(self, dotted: str) -> tuple[Path, int, int]:
        """Where a function, class or constant is defined: file, first and last line."""
        module, name = self.find(dotted)
        statements = self._statements((module, name), None)
        path = self._path(module)
        if path is None or not statements:
            raise FingerprintError(f"{dotted!r}: a module; name a function or class in it.")
        first, last = statements[0], statements[-1]
        decorators = [d.lineno for d in getattr(first, "decorator_list", [])]
        return path, min([first.lineno, *decorators]), last.end_lineno or last.lineno  # type: ignore[attr-defined]

    def _follow(
        self, definition: Definition, keys: tuple[str, ...] | None
    ) -> tuple[str, frozenset[Definition]]:
        """The hash of a definition's tree, and the definitions that it uses directly."""
        if (definition, keys) not in self._read:
            module = definition[0]
            statements = self._statements(definition, keys)
            told = [*map(canonical, statements), *self._imported_names(module, statements)]
            used = {d for s in statements for d in self._used(module, s)} | self._run_by(module)
            self._read[definition, keys] = (
                hashlib.sha256("\n".join(told).encode()).hexdigest(),
                frozenset(used),
            )
        return self._read[definition, keys]

    def _statements(
        self, definition: Definition, keys: tuple[str, ...] | None
    ) -> Sequence[ast.stmt | ast.expr]:
        module, name = definition
        source = self._known(module)
        if keys is not None:
            return [source.narrowed(name, keys)]
        return source.definitions[name] if name else source.effects

    def _used(self, module: str, statement: ast.AST) -> Iterator[Definition]:
        """Definitions of the package that a statement names, as `name` or as `module.name`."""
        source = self._known(module)
        inside = list(source.imported([statement])) if isinstance(statement, ast.stmt) else []
        for first, *rest in chains(statement):
            starts = [target for name, target in inside if name == first]
            for start in starts or [source.imports.get(first, (module, first))]:
                found, following = self._resolve(*start), list(rest)
                while found is not None and not found[1] and following:
                    found = self._resolve(found[0], following.pop(0))
                if found is not None:
                    yield from self._whole(found)

    def _imported_names(self, module: str, statements: Sequence[ast.AST]) -> list[str]:
        """What the names stand for that some statements use and the module imports."""
        imports = self._known(module).imports
        used = sorted({chain[0] for s in statements for chain in chains(s)} & imports.keys())
        targets = [(name, self._resolve(*imports[name]) or imports[name]) for name in used]
        return [f"{name}={':'.join(target)}" for name, target in targets]

    def _run_by(self, module: str) -> set[Definition]:
        """The modules that run when this one is imported by its name: itself and its packages."""
        parts = module.split(".")
        above = [".".join(parts[: n + 1]) for n in range(len(parts))]
        return {(name, "") for name in above if self._module(name) is not None}

    def _whole(self, found: Definition) -> Iterator[Definition]:
        """A definition; for a module that is handed on as a value, everything in it."""
        yield found
        source = self._module(found[0])
        if not found[1] and source is not None:
            yield from ((found[0], name) for name in source.definitions)

    def _resolve(self, module: str, name: str) -> Definition | None:
        """What a name in a module stands for; None if that is outside the package."""
        seen: set[Definition] = set()
        while (module, name) not in seen and (source := self._module(module)) is not None:
            seen.add((module, name))
            if not name or name in source.definitions:
                return module, name
            if source.imports.get(name, (module, name)) != (module, name):
                module, name = source.imports[name]
            else:
                module, name = f"{module}.{name}", ""
        return None

    def _path(self, module: str) -> Path | None:
        if module.partition(".")[0] not in self.packages:
            return None
        base = self.root.joinpath(*module.split("."))
        candidates = (base.with_suffix(".py"), base / "__init__.py")
        return next((path for path in candidates if path.is_file()), None)

    def _known(self, module: str) -> Module:
        source = self._module(module)
        if source is None:
            raise FingerprintError(f"{module!r}: no such module in {self.root}.")
        return source

    def _module(self, module: str) -> Module | None:
        if module not in self._modules:
            path = self._path(module)
            self._modules[module] = (
                None
                if path is None
                else Module(module, ast.parse(path.read_bytes()), path.name == "__init__.py")
            )
        return self._modules[module]


def _demand_reached(
    tables: Mapping[Definition, object], found: Mapping[Definition, object], entries: Sequence[str]
) -> None:
    for table in tables.keys() - found.keys():
        raise FingerprintError(f"choose: {'.'.join(table)} is not reached from {entries}.")
