from __future__ import annotations

import threading

import pytest
from qtpy.QtCore import QObject

from napari_flowmag._qt.job import Job, running_jobs, show_error, stop_all
from napari_flowmag._qt.widgets import JobBar
from napari_flowmag.errors import FlowmagError


def outcome_of(qtbot, work):
    job = Job(work, "test")
    with qtbot.waitSignal(job.finished, timeout=10_000) as finished:
        job.start()
    assert job not in running_jobs()
    return finished.args[0]


def test_value_and_progress(qtbot):
    seen = []

    def work(handle):
        seen.append(threading.current_thread())
        handle.progress(3, 3)
        handle.produce("half-way")
        return 5

    job = Job(work, "test")
    steps, products = [], []
    job.progressed.connect(lambda done, total: steps.append((done, total)))
    job.produced.connect(products.append)
    with qtbot.waitSignal(job.finished, timeout=10_000) as finished:
        job.start()
    assert (finished.args[0].value, steps, products) == (5, [(3, 3)], ["half-way"])
    assert seen[0] is not threading.main_thread()
    assert not seen[0].is_alive()


@pytest.mark.parametrize("error", [RuntimeError("torch"), FlowmagError("line"), SystemExit(3)])
def test_any_error_is_told_of(qtbot, error):
    def work(handle):
        raise error

    outcome = outcome_of(qtbot, work)
    assert outcome.error is error
    assert not outcome.cancelled


def test_cancelling(qtbot):
    job = Job(lambda handle: (handle.cancelled.wait(10), handle.check()), "test")
    with qtbot.waitSignal(job.finished, timeout=10_000) as finished:
        job.start()
        job.cancel()
    assert finished.args[0].cancelled
    assert finished.args[0].error is None


def test_a_job_ends_with_its_owner(qtbot):
    owner = QObject()
    ended = threading.Event()

    def work(handle):
        handle.cancelled.wait(10)
        ended.set()

    Job(work, "test", owner).start()
    owner.deleteLater()
    qtbot.waitUntil(ended.is_set, timeout=10_000)
    qtbot.waitUntil(lambda: not running_jobs(), timeout=10_000)


def test_all_jobs_stop_at_the_end(qtbot):
    for _ in range(3):
        Job(lambda handle: handle.cancelled.wait(10), "test").start()
    assert stop_all(5)
    qtbot.waitUntil(lambda: not running_jobs(), timeout=10_000)


def test_one_notification_with_a_line(qtbot):
    from napari.utils.notifications import notification_manager

    with notification_manager:
        before = len(notification_manager.records)
        show_error(FlowmagError("frame 3 is missing: choose another"))
        show_error(ValueError("what\na mess"))
        records = notification_manager.records[before:]
    assert [r.message for r in records] == [
        "flowmag: frame 3 is missing: choose another",
        "flowmag: unexpected ValueError: what a mess (the log has more)",
    ]


def test_an_end_that_reaches_nobody_is_an_end(qtbot):
    """The thread has told of its end, but the owner goes before that is delivered."""
    sip = pytest.importorskip("PyQt6.sip")
    owner = QObject()
    job = Job(lambda handle: None, "test", owner)
    job.start()
    job._thread.join(10)
    sip.delete(owner)
    assert not running_jobs()


def test_a_download_is_counted_in_megabytes(qtbot, monkeypatch):
    bar = JobBar("bytes")
    qtbot.addWidget(bar)
    job = Job(lambda handle: None, "Download")
    bar.watch(job)
    for now, done in ((10.0, 1_000_000), (12.0, 151_000_000)):
        with monkeypatch.context() as clock:
            clock.setattr("time.monotonic", lambda now=now: now)
            job.progressed.emit(done, 375_000_000)
    assert bar.label.text() == "151 of 375 MB, 75 MB/s, 3 s left"
