"""The `oddframe` command: commands are loaded when they are called, errors become one line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from pipeline.errors import OddframeError, UsageError

EXIT_DONE, EXIT_DIFFERENCE, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common:
    """Options of every command.

    Attributes:
        home: where all state lives; also ODDFRAME_HOME.
        json: one JSON document per line on stdout, nothing else there.
    """

    home: Annotated[Path | None, Parameter(help="Where all state lives; also ODDFRAME_HOME.")] = None
    json: Annotated[bool, Parameter(negative="", help="One JSON document per line on stdout, nothing else there.")] = (
        False
    )


COMMON = Common()

_COMMANDS = {
    "demo": ("pipeline.cli.demo:demo", "One simulated night from frames to flagged frames, with a picture."),
    "simulate": ("pipeline.cli.telescope:simulate", "Write a seeded star-field night with injected anomalies."),
    "produce": (
        "pipeline.cli.telescope:produce",
        "Feed frames into a spool or topic at a cadence, as a telescope would.",
    ),
    "ingest": ("pipeline.cli.frames:ingest", "Bring frames in and say of each what it is."),
    "watch": ("pipeline.cli.frames:watch", "Follow a spool directory or a topic until interrupted."),
    "reference": ("pipeline.cli.reference:reference", "The frames that others are compared with."),
    "verdicts": ("pipeline.cli.verdicts:verdicts", "The newest verdict of each frame, oddest first."),
    "sensitivity": ("pipeline.cli.sensitivity:sensitivity", "What a night would have missed, by injected light."),
    "explain": ("pipeline.cli.verdicts:explain", "Why a frame was judged as it was; replay it; draw it."),
    "sql": ("pipeline.cli.sql:sql", "Ask a question in Presto's SQL."),
    "verify": ("pipeline.cli.tables:verify", "Prove that source, tables, vectors and originals agree."),
    "archive": ("pipeline.cli.tables:archive", "Move old originals to the archive."),
    "evaluate": ("pipeline.cli.evaluate:evaluate", "How well specs tell what is odd, on folders with a truth file."),
    "maintain": ("pipeline.cli.maintain:maintain", "Tidy tables and vectors: merge, expire, remove orphans, compact."),
    "flows": ("pipeline.cli.flows:flows", "Serve or deploy the Prefect flows."),
    "topic": ("pipeline.cli.topic:topic", "The Kafka topic that frames come in: lag, dead letters, re-drive."),
    "stack": ("pipeline.cli.stack:stack", "Kafka, Presto, Milvus and Prefect on this machine."),
    "doctor": ("pipeline.cli.tables:doctor", "Is everything there that a night needs?"),
}

app = App(
    name="oddframe",
    help="A lakehouse image anomaly pipeline: frames in, verdicts out, every one of them replayable.",
    version=partial(metadata.version, "oddframe"),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # `run` has a sentence for it
)
for _name, (_place, _help) in _COMMANDS.items():
    app.command(_place, name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a difference was found, 2 wrong use, 3 a service is unreachable."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code and lets no traceback out."""
    try:
        _check_command(arguments)
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _complain(f"{_first_line(error)}; see `oddframe --help`", EXIT_USAGE)
    except OddframeError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; what was committed is kept, run the same command to go on", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe (head, say) went away: no fault of ours, but nothing may be flushed to it at exit.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123
        return EXIT_DONE
    except Exception as error:  # noqa: BLE001 - the last resort: a fault of ours is named, kept and reported as one line
        place = _keep_traceback()
        return _complain(f"a fault in oddframe: {type(error).__name__}: {_first_line(error)} (details in {place})", 3)
    return code if isinstance(code, int) else EXIT_DONE


def _check_command(arguments: Sequence[str]) -> None:
    if arguments and arguments[0].split("=")[0] in ("--home", "--json"):
        raise UsageError(f"{arguments[0]} stands after the command: oddframe COMMAND {arguments[0]} ...")
    # Looked up here: cyclopts would load every command to suggest a near one.
    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        near = get_close_matches(arguments[0], _COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "see `oddframe --help`"
        raise UsageError(f"there is no command {arguments[0]!r}; {hint}")


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"oddframe: {text}\n")
    return code


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _keep_traceback() -> Path:
    place = Path.cwd() / "oddframe-fault.log"
    try:
        with place.open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc() + "\n")
    except OSError:
        return Path("nowhere: the current directory cannot be written")
    return place
