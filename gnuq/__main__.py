"""The command line: `python -m gnuq COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def _check(options: argparse.Namespace) -> int:
    from gnuq.pipeline import check

    return check.main()


def _status(options: argparse.Namespace) -> int:
    from gnuq.pipeline import check

    return check.status(options.item)


def _record(options: argparse.Namespace) -> int:
    from gnuq.pipeline import runs, stages

    for stage in stages.selected(options.item):
        runs.record(stage, again=options.again)
    return 0


def _reproduce(options: argparse.Namespace) -> int:
    from gnuq.pipeline import reproduce

    return reproduce.main(options.item)


def _replay(options: argparse.Namespace) -> int:
    from gnuq.pipeline import accept

    return accept.main(options.item, because=options.accept)


def parser() -> argparse.ArgumentParser:
    """The commands and their options; nothing heavy is imported."""
    top = argparse.ArgumentParser(prog="python -m gnuq", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, work: object, told: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=told, description=told)
        made.set_defaults(work=work)
        return made

    item = "a stage, an artefact, or the beginning of stage names: table-5, hmc/xor"
    command("check", _check, "check that every artefact belongs to the code that claims it")
    listed = command("status", _status, "list stages, and what is out of date")
    listed.add_argument("item", nargs="*", help=item)
    record = command("record", _record, "compute what is missing or out of date")
    record.add_argument("item", nargs="*", help=f"{item}; all if omitted")
    record.add_argument("--again", action="store_true", help="compute what is up to date too")
    reproduce = command("reproduce", _reproduce, "recompute one item, and what it needs")
    reproduce.add_argument("item", help="an item of the paper (table-5, figure-2), or a stage")
    replay = command(
        "replay", _replay, "recompute a sample of rows, and report how far off they are"
    )
    replay.add_argument("item", nargs="*", help=f"{item}; all if omitted")
    replay.add_argument(
        "--accept", metavar="WHY", help="where it agrees, accept that the code was rewritten"
    )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that a user can mend are told in one line."""
    from gnuq.artefacts import ArtefactError
    from gnuq.pipeline.stages import ItemError

    options = parser().parse_args(arguments)
    try:
        status: int = options.work(options)
    except (ArtefactError, ItemError) as error:
        print(f"python -m gnuq {options.command}: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
