"""From an entry function to every definition that it reaches, and their common hash."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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

    def fingerprint(self, *entries: str, choose: Choice | None = None) -> str:
        """SHA-256 over every definition that the entries reach.

        Args:
            entries: dotted names of functions, classes or constants, module included.
            choose: dotted name of a table (a dictionary literal at the top of a module) → the key
                or keys of the entries that count.

        Raises:
            FingerprintError: an entry, or a key of a table, does not exist.
        """
        reached = self.reached(*entries, choose=choose)
        lines = [f"{module}:{name} {reached[module, name]}" for module, name in sorted(reached)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def reached(self, *entries: str, choose: Choice | None = None) -> dict[Definition, str]:
        """Every definition that the entries reach, with the hash of its own syntax tree.

        Args:
            entries: as for `fingerprint`.
            choose: as for `fingerprint`.
        """
        tables = {
            self.find(table): (keys,) if isinstance(keys, str) else tuple(keys)
            for table, keys in (choose or {}).items()
        }
        waiting = [self.find(entry) for entry in entries]
        found: dict[Definition, str] = {}
        while waiting:
            definition = waiting.pop()
            if definition not in found:
                found[definition], used = self._follow(definition, tables.get(definition))
                waiting += used
        for table in tables.keys() - found.keys():
            raise FingerprintError(f"choose: {'.'.join(table)} is not reached from {entries}.")
        return found

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
