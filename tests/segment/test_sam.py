"""Segment Anything's own code, on a tiny model with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_flowmag import magnify
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.segment import Prompt
from napari_flowmag.segment.sam import Prepared, SamSegmenter

pytest.importorskip("segment_anything")


def test_points_become_a_mask_and_the_mask_a_targeted_magnification(sam_checkpoint):
    clip = np.random.default_rng(0).integers(0, 4000, (3, 50, 70), dtype=np.uint16)
    segmenter = SamSegmenter(sam_checkpoint, "cpu")
    prepared = segmenter.prepare(clip[0], lambda: None)
    masks = [
        segmenter.segment(prepared, prompt)
        for prompt in (
            Prompt(((20, 30),)),
            Prompt(((20, 30), (25, 35)), ((5, 5),)),
            Prompt(boxes=((10, 10, 40, 50), (2, 2, 9, 9))),
        )
    ]
    assert all(mask.shape == (50, 70) and mask.dtype == bool for mask in masks)
    # Random weights find no object, but the answer depends on the question.
    assert (masks[0] != masks[1]).any()
    mask = next(mask for mask in masks if mask.any() and not mask.all())
    magnified = magnify(clip, 4, mask=mask.astype(np.uint8))
    change = np.abs(magnified[1:].astype(int) - clip[1:]).mean(axis=0)
    assert change[mask].mean() > 2 * change[~mask].mean()


def test_it_is_the_model_of_the_file(sam_checkpoint):
    segmenter = SamSegmenter(sam_checkpoint, "cpu")
    stored = torch.load(sam_checkpoint, weights_only=True)
    for name, value in segmenter._predictor.model.state_dict().items():
        torch.testing.assert_close(value, stored[name])
    assert segmenter.model_type == "vit"
    encoder = segmenter._predictor.model.image_encoder
    assert [block.window_size for block in encoder.blocks] == [2, 0, 2]
    assert encoder.blocks[0].attn.num_heads == 3


def test_stops_while_it_looks_at_the_picture(sam_checkpoint):
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 3:
            raise Cancelled

    segmenter = SamSegmenter(sam_checkpoint, "cpu")
    with pytest.raises(Cancelled):
        segmenter.prepare(np.zeros((40, 40), np.uint8), check)
    assert segmenter.prepare(np.zeros((40, 40), np.uint8), lambda: None) is not None


def test_files_that_hold_no_such_model(tmp_path, sam_checkpoint):
    with pytest.raises(FlowmagError, match="does not exist"):
        SamSegmenter(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(FlowmagError, match="damaged, or no"):
        SamSegmenter(tmp_path / "text.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(FlowmagError, match="is no Segment Anything"):
        SamSegmenter(tmp_path / "other.pth")
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 2, 2, 4)}, tmp_path / "part.pth")
    with pytest.raises(FlowmagError, match="this version knows"):
        SamSegmenter(tmp_path / "part.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(sam_checkpoint.read_bytes()[:5000])
    with pytest.raises(FlowmagError, match="damaged, or no"):
        SamSegmenter(cut)


def test_pictures_are_looked_at_once():
    known, made = Prepared(most=2), []
    for key in "abacab":
        known.get(key, lambda key=key: made.append(key))
    assert made == ["a", "b", "c", "b"]
