"""Long work in a background thread, told about in the GUI thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from napari_flowmag.errors import Cancelled, FlowmagError

_INTERVAL = 0.05  # s between two reports of progress: more would only slow the window down

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    value : object
        What the work returned; None if it failed.
    error : Exception, optional
        What it raised, unless it was cancelled.
    cancelled : bool
        Whether it ended because it was asked to.
    """

    value: Any = None
    error: BaseException | None = None
    cancelled: bool = False


class Handle:
    """What the work is given: how to report, and whether to stop.

    Attributes
    ----------
    cancelled : threading.Event
        Set when the user wants the work to end.
    abandoned : bool
        Whether the job's owner is gone, and with it whoever would be told of the end.
    """

    def __init__(self, job: Job) -> None:
        self.cancelled = threading.Event()
        self.abandoned = False
        self._job = job
        self._reported = 0.0

    def progress(self, done: int, total: int) -> None:
        """Report steps done and steps in all; calls that follow too quickly are passed over."""
        now = time.monotonic()
        if now - self._reported >= _INTERVAL or done >= total:
            self._reported = now
            self._job.progressed.emit(done, total)

    def produce(self, value: Any) -> None:
        """Send an intermediate result to the GUI thread."""
        self._job.produced.emit(value)

    def abandon(self) -> None:
        """Ask the work to stop, and tell nobody."""
        self.abandoned = True
        self.cancelled.set()

    def check(self) -> None:
        """Raise :class:`~napari_flowmag.errors.Cancelled` if the work is to stop."""
        if self.cancelled.is_set():
            raise Cancelled


class Job(QObject):
    """Work that runs in a thread of its own, once.

    Qt's own pool and napari's workers are not used: a worker of theirs loses every ``RuntimeError``
    (torch's are of that kind) and can keep the application from closing for as long as a step of
    the work takes. Whatever the work does, exactly one `finished` follows a `start`.

    Parameters
    ----------
    work : callable
        Called in the thread with a :class:`Handle`; what it returns is the outcome's value. It may
        not touch layers or widgets.
    description : str
        A few words for napari's activity dock and for the thread's name.
    parent : QObject, optional
        Owner. When it is destroyed the job is cancelled, and nothing is reported any more.
    activity : bool
        Whether to show a bar in napari's activity dock.
    """

    progressed = Signal(int, int)
    """Steps done and steps in all, at most 20 times a second."""
    produced = Signal(object)
    """What the work sends while it goes on."""
    finished = Signal(object)
    """The :class:`Outcome`, in the GUI thread, when the thread is about to end."""

    _ended = Signal(object)

    def __init__(
        self,
        work: Callable[[Handle], Any],
        description: str,
        parent: QObject | None = None,
        *,
        activity: bool = True,
    ) -> None:
        super().__init__(parent)
        self.description = description
        self.started_at = 0.0
        self._handle = Handle(self)
        self._activity: Any = None
        self._shows_activity = activity
        self._thread = threading.Thread(
            target=self._run, args=(work,), name=f"flowmag {description}", daemon=True
        )
        self._ended.connect(self._finish)
        self.progressed.connect(self._show_progress)

    @property
    def running(self) -> bool:
        """Whether the job was started and has not finished."""
        return self in _running

    def start(self) -> None:
        """Start the thread."""
        _stop_with_application()
        parent = self.parent()
        if parent is not None:
            parent.destroyed.connect(self._handle.abandon)
        _running.add(self)
        self.started_at = time.monotonic()
        if self._shows_activity:
            self._activity = _activity(self.description)
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to stop; `finished` follows."""
        self._handle.cancelled.set()

    def _run(self, work: Callable[[Handle], Any]) -> None:
        outcome = Outcome()
        try:
            outcome = Outcome(value=work(self._handle))
        except Cancelled:
            outcome = Outcome(cancelled=True)
        # Everything: a thread that dies of an error would leave its bar and its buttons behind.
        except BaseException as error:
            outcome = Outcome(error=error)
        finally:
            try:
                self._ended.emit(outcome)
            except RuntimeError:  # the window is gone, and this object's Qt half with it
                self._handle.abandoned = True

    def _show_progress(self, done: int, total: int) -> None:
        if self._activity is not None:
            self._activity.total = total
            self._activity.update(done - self._activity.n)

    def _finish(self, outcome: Outcome) -> None:
        self._thread.join()  # emitting this signal was the last thing it did
        _running.discard(self)
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        self.finished.emit(outcome)
        self.deleteLater()


_running: set[Job] = set()
"""Jobs that go on; this keeps them alive when nobody else does."""

_applications: set[int] = set()


def running_jobs() -> tuple[Job, ...]:
    """Return the jobs that go on now."""
    for job in tuple(_running):
        # An owner's end is told of before its jobs are destroyed: what a thread still emits in
        # between is delivered to nobody.
        if job._handle.abandoned and not job._thread.is_alive():
            _running.discard(job)
    return tuple(_running)


def stop_all(timeout: float = 1.5) -> bool:
    """Cancel every job and wait for the threads to end.

    Parameters
    ----------
    timeout
        Longest wait in seconds, for all of them together.

    Returns
    -------
    bool
        Whether all have ended.
    """
    jobs, deadline = running_jobs(), time.monotonic() + timeout
    for job in jobs:
        job.cancel()
    for job in jobs:
        job._thread.join(max(deadline - time.monotonic(), 0))
    return not any(job._thread.is_alive() for job in jobs)


def show_error(error: BaseException) -> None:
    """Tell about an error in one napari notification.

    A :class:`~napari_flowmag.errors.FlowmagError` is shown as it is; of anything else there is a
    line in the notification and the traceback in the log.
    """
    from napari.utils import notifications

    if not isinstance(error, (FlowmagError, MemoryError)):
        _logger.error("unexpected error", exc_info=error)
    notifications.show_error(f"flowmag: {line_of(error)}")


def line_of(error: BaseException) -> str:
    """Return an error as one line for the user."""
    if isinstance(error, FlowmagError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory is full: choose smaller tiles, or fewer frames"
    reason = " ".join(str(error).split())[:200]
    return f"unexpected {type(error).__name__}: {reason} (the log has more)"


def _stop_with_application() -> None:
    application = QCoreApplication.instance()
    if application is not None and id(application) not in _applications:
        _applications.add(id(application))
        application.aboutToQuit.connect(stop_all)


def _activity(description: str) -> Any:
    """Return a bar in the activity dock of the window in use, None if there is none."""
    from napari import current_viewer
    from napari.utils import progress

    return None if current_viewer() is None else progress(total=0, desc=description)
