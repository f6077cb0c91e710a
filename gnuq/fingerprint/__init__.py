"""A fingerprint of the code that a computation reaches: comments and docstrings do not count.

A table is out of date when the code that made it has changed, and hours of sampling must not be
asked for because a sentence in a docstring has. So the code is read, not run: from an entry
function, every name that it uses is followed to its definition, through imports, and the syntax
trees of all definitions reached are hashed together. What is not reached does not count either: a
new function in the same module leaves the fingerprint as it is. Annotations are followed, since
the class that they name is used, but not hashed.

A table of settings, `{"xor": …, "rings": …}`, may be narrowed to the entries that one computation
reads. Names from outside the package end the search: versions stand in the provenance, not here.
"""

from gnuq.fingerprint.reach import Code
from gnuq.fingerprint.source import FingerprintError

__all__ = ["Code", "FingerprintError"]
