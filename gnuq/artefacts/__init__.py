"""Save and load a table together with its provenance: what made it, from what, and when.

A *record* is expensive (one row per grid point or example; parquet); a *result* is cheap (one
small table; csv). Beside each lies `NAME.json` with the provenance and the table's sha256. A
table without its provenance, or whose bytes do not match it, is refused. `Parts` keeps what a long
run has finished, so that one that is cut off resumes where it was; `Checkpoints` keeps the state of
chains that take hours.
"""

from gnuq.artefacts.checkpoints import Checkpoints
from gnuq.artefacts.files import (
    ROOT,
    Artefact,
    ArtefactError,
    Kind,
    exists,
    load,
    names,
    path_of,
    provenance,
    restamp,
    save,
)
from gnuq.artefacts.origin import Origin, machine
from gnuq.artefacts.parts import Parts

__all__ = [
    "ROOT",
    "Artefact",
    "ArtefactError",
    "Checkpoints",
    "Kind",
    "Origin",
    "Parts",
    "exists",
    "load",
    "machine",
    "names",
    "path_of",
    "provenance",
    "restamp",
    "save",
]
