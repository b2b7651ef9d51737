"""Tasks are done once, kept, and summed up."""

from __future__ import annotations

import json
import math
import re
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_flowmag.errors import Cancelled
from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.cost import Cost
from napari_flowmag.evaluate.judges import load_judges
from napari_flowmag.evaluate.methods import Method, trivial_method
from napari_flowmag.evaluate.report import make_report, to_json, write_report
from napari_flowmag.evaluate.report_html import to_html
from napari_flowmag.evaluate.run import run
from napari_flowmag.evaluate.store import Result, Store
from napari_flowmag.evaluate.summary import summarise


@pytest.fixture(scope="module")
def flows():
    return load_judges(["lucas_kanade"], "cpu")


@pytest.fixture(scope="module")
def cases(texture):
    def make(level, factor=1.0):
        shifts = [(0, 0)] + [(factor * level * s, 0) for s in (0.5, 1, 0.5, 0.2, -0.4)]
        return np.repeat(texture(shifts, 40, 48, seed=2)[..., None], 3, -1).astype(np.float32)

    def sample(level, alpha):
        motion = np.zeros((6, 2, 40, 48), np.float32)
        motion[:, 0] = level * np.array([0, 0.5, 1, 0.5, 0.2, -0.4])[:, None, None]
        moving = np.ones((40, 48), bool)
        return Sample(make(level), truth=make(level, alpha), motion=motion, moving=moving)

    listed = tuple(
        Case(f"w{level:g}", 5.0, lambda level=level: sample(level, 5.0), level, f"{level:g} px")
        for level in (0.1, 0.2, 0.3)
    )
    return CaseSet("waves", "Waves", "Waves <move>.", "abc", listed, "displacement in px")


class Counted:
    """The exact answer, and how often it was asked for."""

    def __init__(self, stop_at=None, cancel=None):
        self.calls, self.stop_at, self.cancel = [], stop_at, cancel

    def method(self, key="1"):
        def magnify(cases, case, sample):
            self.calls.append(case.name)
            if len(self.calls) == self.stop_at:
                self.cancel.set()
            return sample.truth

        return Method("right", key, magnify)


def test_tasks_are_done_once_and_a_stopped_run_goes_on(cases, flows, tmp_path):
    cancel = threading.Event()
    exact = Counted(2, cancel)
    seen = []
    with pytest.raises(Cancelled):
        run([cases], [exact.method()], flows, tmp_path, cancel=cancel)
    assert exact.calls == ["w0.1", "w0.2"]
    again = Counted()
    (found,) = run(
        [cases], [again.method()], flows, tmp_path, progress=lambda *done: seen.append(done)
    )
    assert again.calls == ["w0.3"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [result.case for result in found.results["right"]] == ["w0.1", "w0.2", "w0.3"]
    changed = Counted()
    run([cases], [changed.method("2")], flows, tmp_path)
    assert changed.calls == ["w0.1", "w0.2", "w0.3"]


def test_pictures_that_are_missing_are_made_again(cases, flows, tmp_path):
    run([cases], [Counted().method()], flows, tmp_path)
    for path in (tmp_path / "pictures").rglob("right*.png"):
        path.unlink()
    again = Counted()
    run([cases], [again.method()], flows, tmp_path)
    assert len(again.calls) == 3
    assert len(list((tmp_path / "results").rglob("*.jsonl"))) == 1


def test_pictures_of_other_samples_are_not_kept(cases, flows, tmp_path):
    """As with another seed: the tasks are called the same."""

    def made(fingerprint, light):
        def lit(make):
            sample = make()
            return replace(sample, frames=light * sample.frames, truth=light * sample.truth)

        listed = tuple(replace(c, make=partial(lit, c.make)) for c in cases.cases[:1])
        drawn = replace(cases, fingerprint=fingerprint, cases=listed)
        method = Counted().method()
        found = run([drawn], [method], flows, tmp_path)
        html = to_html(make_report(found, [method], list(flows), [], tmp_path))
        return re.findall(r"data:image/png[^\"]*", html)

    first, other = made("abc", 1.0), made("def", 0.8)
    assert len(first) == len(other) == 7
    assert not set(first) & set(other)
    assert made("abc", 1.0) == first


def test_a_line_cut_short_is_done_again(cases, flows, tmp_path):
    method = trivial_method("identity")
    store = Store(tmp_path, cases, method, "j")
    store.add(Result("w0.1", 5.0, 0.1, {"factor": 1.0, "psnr": math.inf}))
    store.add(Result("w0.2", 5.0, 0.2, {"factor": 1.0}))
    (path,) = tmp_path.rglob("*.jsonl")
    path.write_text(path.read_text()[:-20])
    again = Store(tmp_path, cases, method, "j")
    assert list(again.results) == ["w0.1"]
    assert again.results["w0.1"].figures["psnr"] == math.inf
    again.add(Result("w0.2", 5.0, 0.2, {"factor": 2.0}))
    assert Store(tmp_path, cases, method, "j").results["w0.2"].figures == {"factor": 2.0}


def test_the_exact_answer_is_found_to_be_right_and_the_input_is_not(cases, flows, tmp_path):
    (found,) = run([cases], [Counted().method(), trivial_method("identity")], flows, tmp_path)
    exact, same = (
        [mean for mean in summarise(found) if mean.method == name] for name in ("right", "identity")
    )
    assert [mean.group for mean in exact] == ["0.1 px", "0.2 px", "0.3 px"]
    for mean in exact:
        assert mean.figures["factor_ratio"] == pytest.approx(1, abs=0.02)
        assert mean.figures["ssim"] == pytest.approx(1)
    for mean in same:
        assert mean.figures["factor_ratio"] == pytest.approx(0.2, abs=0.02)
        assert mean.figures["motion_error"] > 2 * exact[0].figures["motion_error"]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.images, self.words, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_holds_every_method_and_needs_nothing_beside_it(cases, flows, tmp_path):
    methods = [Counted().method(), trivial_method("identity")]
    found = run([cases], methods, flows, tmp_path)
    report = make_report(
        found, methods, list(flows), [Cost("right", 512, 0.5, 12.3)], tmp_path, seed="7"
    )
    (html,) = (path for path in write_report(report, tmp_path) if path.suffix == ".html")
    page = Page()
    page.feed(html.read_text("utf-8"))
    words = " ".join(page.words)
    assert "Waves <move>." in words  # escaped, and read back
    for word in ("right", "identity", "0.3 px", "Achieved factor", "2.00", "seed"):
        assert word in words
    # Of three tasks: the reference, and its frame, the truth and the method, these over time too.
    # What doing nothing gives is there already, as the frame.
    assert len(page.images) == 3 * (1 + 2 * 3)
    assert all(source.startswith("data:image/png;base64,") for source in page.images)
    text = html.read_text("utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)|url\(http|@import", text)
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    ET.fromstring(svg)
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["facts"]["seed"] == "7"
    psnr = kept["sets"][0]["tasks"]["right"][0]["figures"]["psnr"]
    assert psnr is None or psnr > 60
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "| right |" in markdown
    assert to_json(report)["sets"][0]["means"] == kept["sets"][0]["means"]


def test_pictures_show_what_was_made(cases, flows, tmp_path):
    run([cases], [Counted().method()], flows, tmp_path)
    folder = tmp_path / "pictures" / "waves-abc" / "w0.3"
    sample = cases.cases[2].make()
    (made,) = (p for p in folder.glob("right-*.png") if not p.name.endswith(".xt.png"))
    expected = np.round(255 * np.clip(sample.truth[2], 0, 1))
    np.testing.assert_allclose(np.asarray(Image.open(made)), expected, atol=1)
    over_time = np.asarray(Image.open(made.with_name(f"{made.stem}.xt.png")))
    assert over_time.shape[1] == 6
