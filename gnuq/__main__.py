"""The command line: `python -m gnuq COMMAND`."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence

# OpenMP's threads wait for each other in a loop that keeps the core busy: of two commands at once
# each takes five times as long as one alone. Read when torch is imported, which is later.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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


def _restamp(options: argparse.Namespace) -> int:
    from gnuq.pipeline import restamp

    return restamp.main(options.item, options.commit)


def _score(options: argparse.Namespace) -> int:
    from gnuq.scoring import command

    return command.main(options)


def _qa(options: argparse.Namespace) -> int:
    from gnuq.qa import command

    return command.main(options)


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
    restamp = command(
        "restamp", _restamp, "give the present claim to what older code with the same content made"
    )
    restamp.add_argument("item", nargs="*", help=f"{item}; all if omitted")
    restamp.add_argument("--commit", help="whose code the old claims are; each record's own")
    _score_options(command("score", _score, "score a language model's answers"))
    _qa_options(command("qa", _qa, "run a question-answering benchmark, from answers to AUROCs"))
    return top


def _score_options(score: argparse.ArgumentParser) -> None:
    what = score.add_argument_group("what is scored")
    what.add_argument("--question", help="a question, asked after five worked examples")
    what.add_argument("--answer", help="its answer; the model's own greedy answer if omitted")
    what.add_argument("--chat", action="store_true", help="use the model's chat template")
    what.add_argument("--max-new-tokens", type=int, default=50, metavar="N", help="default: 50")
    many = score.add_argument_group("many at once")
    many.add_argument(
        "--input",
        metavar="FILE.jsonl",
        help='one object a line: {"question": …, "answer": …}, or "prompt", "messages", '
        '"answer_ids"; a run that was stopped goes on',
    )
    many.add_argument("--output", metavar="FILE.parquet", help="where the scores go")
    with_what = score.add_argument_group("with what model")
    with_what.add_argument(
        "--model",
        help="a named model, a folder, a GGUF file or a hub id; SmolLM2-135M-Instruct if omitted",
    )
    with_what.add_argument("--revision", help="the commit of the model on its hub")
    with_what.add_argument("--quantisation", choices=["nf4", "fp4", "int8"])
    with_what.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    with_what.add_argument("--device", help="cpu, cuda, or auto to spread over several")
    how = score.add_argument_group("how")
    how.add_argument(
        "--objective",
        default="mean_probability",
        choices=["mean_probability", "mean_log_probability", "joint_probability", "token_average"],
        help="what is differentiated; default: the paper's mean probability",
    )
    how.add_argument(
        "--params",
        default="all",
        choices=["all", "autograd", "adapter", "base"],
        help="which weights count; autograd: only what .grad would hold",
    )
    how.add_argument("--memory", type=float, metavar="GIB", help="for a batch's activations")
    how.add_argument("--calibration", metavar="FILE", help="one that gnuq.calibrate has saved")
    how.add_argument("--json", action="store_true", help="one JSON object instead of the report")


def _qa_options(qa: argparse.ArgumentParser) -> None:
    what = qa.add_argument_group("what is run")
    what.add_argument(
        "--model", required=True, help="a named model, a folder, a GGUF file, a hub id"
    )
    what.add_argument(
        "--benchmark",
        required=True,
        help="truthfulqa, triviaqa, or a file with columns question and correct (CSV, JSON lines)",
    )
    what.add_argument("--limit", type=int, metavar="N", help="the first N questions only")
    what.add_argument("--seed", type=int, default=0, help="of sampling; default: 0")
    what.add_argument("--output", default="qa-runs", metavar="FOLDER", help="default: qa-runs")
    with_what = qa.add_argument_group("with what model")
    with_what.add_argument("--revision", help="the commit of the model on its hub")
    with_what.add_argument("--quantisation", choices=["nf4", "fp4", "int8"])
    with_what.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    with_what.add_argument("--device", help="cpu, cuda, or auto to spread over several")
    with_what.add_argument("--chat", action="store_true", help="use the model's chat template")
    how = qa.add_argument_group("how")
    how.add_argument("--samples", type=int, default=10, metavar="N", help="a question; default: 10")
    how.add_argument("--greedy", action="store_true", help="judge the greedy answer")
    how.add_argument("--judge", metavar="MODEL", help="judges answers; else the benchmark's rule")
    how.add_argument(
        "--equivalence",
        default="similarity",
        choices=["similarity", "entailment", "judge"],
        help="how samples mean the same: sentence similarity (no network), an entailment model, "
        "or the judge",
    )
    how.add_argument("--entailment", metavar="MODEL", help="for --equivalence entailment")
    beyond = qa.add_argument_group("beyond one process")
    beyond.add_argument(
        "--ray", metavar="ADDRESS", help="a Ray cluster: auto, local, ray://HOST:PORT"
    )
    beyond.add_argument("--ray-cpus", type=float, default=1, metavar="N", help="cores a shard")
    beyond.add_argument("--ray-gpus", type=float, default=0, metavar="N", help="GPUs a shard")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors that a user can mend are told in one line.

    Returns:
        The exit status: 0 if all is well, 1 if the command found something wrong (as `check` does)
        or could not do part of its work, 2 if it could do nothing, 130 if it was stopped.
    """
    if sys.stdout is None:  # closed by whoever started the process
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    options = parser().parse_args(arguments)
    try:
        status: int = options.work(options)
        if status < 2:
            sys.stdout.flush()  # a full disk shows here, where it can still be told
    except (RuntimeError, ValueError, OSError) as error:
        if not _can_be_mended(error):
            raise
        _tell(options.command, str(error))
        return 2
    except KeyboardInterrupt:
        told = "stopped; what was finished is kept, and the same command goes on from there."
        print(file=sys.stderr)
        _tell(options.command, told)
        return 130
    finally:
        _let_go_of_output()
    return status


def _tell(command: str, message: str) -> None:
    print(f"python -m gnuq {command}: {message}", file=sys.stderr)


def _let_go_of_output() -> None:
    """What the output did not take is dropped: Python would try once more, with another status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


#: The system refuses to write: a full disk or quota, a place that is read-only, a closed pipe.
REFUSALS = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "EPIPE")


def _can_be_mended(error: Exception) -> bool:
    """Whether an error is one of those that name a remedy; imported only when there is one."""
    from gnuq.artefacts import ArtefactError
    from gnuq.pipeline.stages import ItemError
    from gnuq.qa.datasets import DatasetError

    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0) in REFUSALS
    return isinstance(error, (ArtefactError, DatasetError, ItemError))


def program() -> int:
    """The command line as a process: a fault of its own has a trace, and status 2.

    Status 1 means that part of the work could not be done, and nothing else.
    """
    try:
        return main()
    except Exception:
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(program())
