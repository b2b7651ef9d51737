"""The command ``flowmag``: parse, call, print."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from napari_flowmag.errors import Cancelled, FlowmagError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line when None.

    Returns
    -------
    int
        0 when done, 2 for bad usage or bad input, 130 when interrupted.
    """
    import typer

    from napari_flowmag.cli.app import command

    print_anything()
    try:
        with _terminate_as_interrupt():
            code = command().main(
                list(sys.argv[1:] if arguments is None else arguments),
                prog_name="flowmag",
                standalone_mode=False,
            )
    except FlowmagError as error:
        return _fail(str(error))
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "flowmag"
        return _fail(f"{error.format_message()} (see {path} --help)")
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except MemoryError:
        return _fail(
            "memory is full: take a part of the clip with --start and --stop; smaller pieces with "
            "--tile 512 to magnify, a smaller --search to measure"
        )
    except (Cancelled, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("flowmag: interrupted", file=sys.stderr)
    return code or 0


def _fail(reason: str) -> int:
    print("flowmag: error:", " ".join(reason.split()), file=sys.stderr)
    return 2


def print_anything() -> None:
    """Let stdout escape what its encoding lacks, such as the α of a help text, as stderr does."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)  # not every stand-in for it has one
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let a signal to end act as Ctrl-C does, so that nothing half-written stays."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        outlive_terminal(number)
        raise KeyboardInterrupt

    from napari_flowmag.stop_signals import ending_signals, outlive_terminal

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, interrupt) or signal.SIG_DFL for number in ending_signals()
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
