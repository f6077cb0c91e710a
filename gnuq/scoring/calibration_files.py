"""Calibrations as JSON files with a checksum: one that was edited is no calibration any more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from gnuq.artefacts.files import write_whole
from gnuq.scoring.errors import CalibrationError

#: The version of the file format.
FORMAT = 2


def write(path: Path, told: Mapping[str, Any]) -> None:
    """Write a calibration's fields, whole or not at all.

    Raises:
        CalibrationError: the folder is missing or cannot be written.
    """
    content = {"format": FORMAT, "sha256": _checksum(told), **told}
    try:
        write_whole(path, f"{json.dumps(content, indent=1, allow_nan=False)}\n".encode())
    except OSError as error:
        raise CalibrationError(f"path: {path} cannot be written ({error.strerror}).") from error


def read(path: Path) -> dict[str, Any]:
    """The fields that `write` wrote.

    Raises:
        CalibrationError: no such file, not a calibration of this version, or an edited one.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        version, checksum = told.pop("format"), told.pop("sha256", None)
    except FileNotFoundError as error:
        raise CalibrationError(f"path: there is no {path}; save a calibration there.") from error
    except OSError as error:
        raise CalibrationError(f"path: {path} cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CalibrationError(f"path: {path} is no calibration of this version.") from error
    if version != FORMAT:
        raise CalibrationError(
            f"path: {path} is no calibration of this version, but of format {version}, whose "
            "fingerprints saw less of a model; fit it anew with gnuq.calibrate."
        )
    if checksum != _checksum(told):
        raise CalibrationError(
            f"path: {path} was changed after it was saved; restore it, or fit it anew with "
            "gnuq.calibrate."
        )
    return dict(told)


def _checksum(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
