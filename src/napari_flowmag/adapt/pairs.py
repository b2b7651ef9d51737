"""Pairs of crops from a clip, read one frame at a time."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_flowmag.adapt.geometry import Cut, blocks, draw_cut, fixed_cut, heaviest
from napari_flowmag.adapt.settings import MIN_CROP, AdaptSettings
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.frames import pad_to_multiple
from napari_flowmag.frames import Frames
from napari_flowmag.references import fixed_reference, reference_index, used_frames
from napari_flowmag.train.augment import colour
from napari_flowmag.train.config import AugmentConfig
from napari_flowmag.values import ValueRange, View, value_range, views

_CACHE_BYTES = 2**28
_LOOKED_AT = 9  # frames from which it is seen where the clip moves


@dataclass(frozen=True, eq=False)
class Pairs:
    """Some pairs, ready for the model.

    Attributes
    ----------
    reference, frame : Tensor
        Motion images (B, C, H, W) in [0, 1].
    alpha : Tensor
        (B,), magnifications to ask for.
    merge : bool
        Whether the channels are one, shown several times: outputs are averaged over them.
    """

    reference: Tensor
    frame: Tensor
    alpha: Tensor
    merge: bool

    def __len__(self) -> int:
        return len(self.reference)

    def pieces(self, count: int) -> Iterator[Pairs]:
        """Yield the same pairs in `count` batches, or as many as there are pairs."""
        size = max(1, -(-len(self) // count))
        for at in range(0, len(self), size):
            part = slice(at, at + size)
            yield Pairs(self.reference[part], self.frame[part], self.alpha[part], self.merge)

    def to(self, device: torch.device) -> Pairs:
        """Return the pairs on a device."""
        return Pairs(
            self.reference.to(device), self.frame.to(device), self.alpha.to(device), self.merge
        )


class PairSource:
    """Draws pairs of crops of a clip as a function of the seed and the step alone.

    A pair is the reference and a frame that may move against it. Some are held back: they are
    never drawn, and judged at fixed places.

    Parameters
    ----------
    frames : Frames
        The clip; without depth where the settings choose a slice.
    settings : AdaptSettings
        What to draw.
    model_channels : int or None
        :attr:`~napari_flowmag.models.base.Magnifier.channels`.
    alphas : (float, float, float)
        Smallest magnification to learn, the one that is asked for, and the largest.
    mask : ndarray, optional
        (H, W) or (T, H, W): the crops' middles are drawn from where it is not 0.
    limits : ValueRange, optional
        Of the clip, if it is known already.
    check : callable
        Called before each frame that is read; may raise to stop.

    Raises
    ------
    FlowmagError
        If the clip has too few frames, or not the reference.
    """

    def __init__(
        self,
        frames: Frames,
        settings: AdaptSettings,
        model_channels: int | None,
        alphas: tuple[float, float, float],
        mask: NDArray[Any] | None = None,
        limits: ValueRange | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings, self.alphas = settings, alphas
        self._frames, self._check, self._mask = frames, check, mask
        self._cache: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self.selected = _selected(frames, settings)
        used = used_frames(settings.reference, self.selected, len(frames))
        moving = _moving(settings.reference, self.selected, len(frames))
        self.learnt, self.held_back = hold_back(moving, settings.held_back, settings.seed)
        if limits is None:
            limits = value_range(frames, settings.value_range, check, used)
        self._views: list[View] = views(
            model_channels, frames, limits, settings.motion_channels, settings.channels
        )

    def draw(self, step: int) -> Pairs:
        """Draw the pairs of a step."""
        settings = self.settings
        rng = np.random.default_rng((settings.seed, 1, step))
        low, _, high = self.alphas
        alphas = low * (high / low) ** rng.random(settings.batch)
        drawn = []
        for place in range(settings.batch):
            number = step * settings.batch + place
            cut = draw_cut(
                self._frames.size,
                settings,
                rng,
                self._places if rng.random() < settings.focus else None,
            )
            view = self._views[number % len(self._views)]
            z = int(rng.integers(self._frames.sizes.get("Z", 1)))
            pair = self._crop(self._index(number), z, view, cut)
            drawn.append(_jittered(pair, settings, rng))
        return self._together(drawn, alphas, self._views[0])

    def held_back_pairs(self) -> list[Pairs]:
        """Return each held-back pair twice: at the asked magnification and at an end of the range.

        Once around where the mask or the motion is, once in the middle between there and
        the centre of the picture; always the same.
        """
        low, asked, high = self.alphas
        size = self._frames.size
        at = heaviest(self._places)
        between = ((at[0] + size[0] / 2) / 2, (at[1] + size[1] / 2) / 2)
        depth = self._frames.sizes.get("Z", 1)
        batches = []
        for number, index in enumerate(self.held_back):
            view = self._views[number % len(self._views)]
            z = (2 * number + 1) * depth // (2 * len(self.held_back))
            for middle, alpha in ((at, asked), (between, (low, high)[number % 2])):
                pair = self._crop(index, z, view, fixed_cut(size, self.settings.crop, middle))
                batches.append(self._together([pair], np.array([alpha]), view))
        return batches

    def _index(self, number: int) -> int:
        """Return the frame of the `number`-th pair: every one comes once before any twice."""
        turn, place = divmod(number, len(self.learnt))
        order = np.random.default_rng((self.settings.seed, 2, turn)).permutation(len(self.learnt))
        return self.learnt[int(order[place])]

    def _crop(self, index: int, z: int, view: View, cut: Cut) -> Tensor:
        """Return reference and frame, (2, C, H, W) in [0, 1]."""
        both = np.stack([
            planes[z, cut.rows, cut.columns]
            for planes in (self._reference_of(index), self._planes(index))
        ])  # fmt: skip
        return cut.take(view.motion_image(view.picture(view.numbers(both))))

    def _together(self, pairs: Sequence[Tensor], alphas: NDArray[np.float64], view: View) -> Pairs:
        # Contiguous: slices of a 5-D batch corrupted memory in torch's CPU backward passes.
        batch = torch.stack(list(pairs), 1)
        reference, frame = (
            pad_to_multiple(side, 1, MIN_CROP).contiguous() for side in (batch[0], batch[1])
        )
        merge = len(view.motion) > len(view.channels)
        return Pairs(reference, frame, torch.from_numpy(alphas).float(), merge)

    def _reference_of(self, index: int) -> NDArray[Any]:
        shared = self._reference
        return self._planes(index - 1) if shared is None else shared

    @cached_property
    def _reference(self) -> NDArray[Any] | None:
        return fixed_reference(self._frames, self.settings.reference, self.selected, self._check)

    def _planes(self, index: int) -> NDArray[Any]:
        """Read a frame; as many as fit into the budget are kept."""
        if index not in self._cache:
            self._check()
            planes = self._frames.planes(index)
            while self._cache and (len(self._cache) + 1) * planes.nbytes > _CACHE_BYTES:
                self._cache.popitem(last=False)
            self._cache[index] = planes
        self._cache.move_to_end(index)
        return self._cache[index]

    @cached_property
    def _places(self) -> NDArray[np.float64]:
        """How often crops are drawn around a place: by the mask, else by how the clip changes."""
        if self._mask is not None:
            inside = self._mask != 0
            return blocks((inside.any(0) if inside.ndim == 3 else inside).astype(np.float32))
        height, width = self._frames.size
        change = np.zeros((height, width), np.float32)
        view = self._views[0]
        for index in _spread(self.learnt, _LOOKED_AT):
            # All slices of depth count, one at a time.
            for still, moved in zip(self._reference_of(index), self._planes(index), strict=True):
                both = view.numbers(np.stack([still, moved]))
                images = view.motion_image(view.picture(both))
                change += (images[1] - images[0]).abs().mean(0).numpy()
        places = blocks(change)
        # What changes everywhere is noise; every place keeps a small chance.
        moving: NDArray[np.float64] = np.clip(places - np.median(places), 0, None)
        moving += 0.01 * places.mean() + 1e-12
        return moving


def hold_back(
    moving: Sequence[int], most: int, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split pairs into those to learn from and those to judge by: a few, all over the clip.

    Parameters
    ----------
    moving : sequence of int
        The pairs' frames.
    most : int
        Number to hold back, if that is no more than a quarter of all (and one at least).
    seed : int
        Which ones.

    Returns
    -------
    learnt, held_back : tuple of int
        Both in order.

    Raises
    ------
    FlowmagError
        If there are less than two pairs.
    """
    if len(moving) < 2:
        raise FlowmagError(
            f"adapting needs 2 frames that move against a reference, here are {len(moving)}: "
            "give a longer part of the clip"
        )
    count = max(min(most, len(moving) // 4), 1)
    rng = np.random.default_rng((seed, 3))
    edges = np.linspace(0, len(moving), count + 1).round().astype(int)
    held = [moving[int(rng.integers(a, b))] for a, b in itertools.pairwise(edges)]
    return tuple(i for i in moving if i not in held), tuple(held)


def _selected(frames: Frames, settings: AdaptSettings) -> range:
    start = settings.start or 0
    stop = len(frames) if settings.stop is None else settings.stop
    if start >= len(frames) or stop > len(frames):
        raise FlowmagError(f"frames {start} to {stop}: the clip has {len(frames)}, counted from 0")
    return range(start, stop)


def _moving(reference: int | str, selected: range, count: int) -> list[int]:
    """Return the frames that are not their own reference."""
    if reference in ("first", "previous"):
        return list(selected[1:])
    own = reference_index(reference, count) if isinstance(reference, int) else None
    return [index for index in selected if index != own]


def _spread(items: Sequence[int], count: int) -> list[int]:
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def _jittered(pair: Tensor, settings: AdaptSettings, rng: np.random.Generator) -> Tensor:
    """Change both frames' colours alike; channels that are no RGB only in brightness, contrast."""
    if not any(settings.jitter):
        return pair
    config = AugmentConfig(jitter=settings.jitter)
    if pair.shape[1] == 3:
        return colour(pair, config, rng)
    wide = torch.cat(list(pair.unbind(1)), -1).unsqueeze(1)
    return torch.cat(colour(wide, config, rng).chunk(pair.shape[1], -1), 1)
