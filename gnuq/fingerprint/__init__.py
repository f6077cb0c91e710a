"""A fingerprint of the code that a computation reaches, by what it does.

A table is out of date when the code that made it has changed, and hours of sampling must not be
asked for because a sentence in a docstring has, or because a module was moved. So the code is
read, not run: from an entry function, every name that it uses is followed to its definition,
through imports. A definition's digest is that of its syntax tree, in which every name of another
definition of the project is replaced by that one's digest; its own name is left out, local
variables are numbered, and what an error says is dropped. So moves, renames, another order and
other words change nothing; a constant, an operator, a default or what is called does.

What is not reached does not count: a new function in the same module leaves the fingerprint as it
is. What importing a module does counts for whatever stands in it. Annotations are followed, since
the class that they name is used, but not written down. A table of settings, `{"xor": …, "rings":
…}`, may be narrowed to the entries that one computation reads. Names from outside the packages
stand in full and end the search: versions are in the provenance, not here.
"""

from gnuq.fingerprint.reach import Code
from gnuq.fingerprint.source import FingerprintError

__all__ = ["Code", "FingerprintError"]
