"""A magnifier at work on planes: passes, tiles, kept results, coping with full memory."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_flowmag.device import (
    autocast,
    cache_budget,
    is_out_of_memory,
    keep_heap,
    release_memory,
)
from napari_flowmag.errors import FlowmagError
from napari_flowmag.interruptible import interruptible
from napari_flowmag.models.base import Alpha, Magnifier, MaskedAlpha, crop_alpha
from napari_flowmag.nested import filled, tensors
from napari_flowmag.recorded import Recorded
from napari_flowmag.side_by_side import process_threads, side_by_side
from napari_flowmag.strength import Strength
from napari_flowmag.tiles import MIN_TILE, Tile, tiles
from napari_flowmag.values import ValueRange, View

WHOLE_FRAME = 2**21
"""Pixels up to which a frame is magnified whole unless a tile size is asked for (full HD)."""

_AUTO_TILE = 1024
_MANY = 100  # planes for which it pays to record what is computed, which takes a second
_RECORDED_PIXELS = 2**20  # of the largest planes: what is replayed cannot be cancelled on its way
_CAPTURED_PIXELS = 2**22  # the same on a card, where what replays compute in stays taken: 1.5 GB
_MIN_SIDE = 32  # networks halve a picture up to five times

_logger = logging.getLogger(__name__)


class Engine:
    """Runs one magnifier on one device.

    Parameters
    ----------
    magnifier : Magnifier
        Moved to the device and put into evaluation mode.
    device : torch.device
        Where it computes.
    precision : {"float32", "bfloat16", "float16"}
        What its networks compute in.
    size : (int, int)
        Height and width of the planes.
    tile : int or None
        As in :class:`~napari_flowmag.settings.MagnifySettings`.
    batch : int
        Planes at once.
    check : callable
        Called before each tile and each layer of a network; may raise to stop.
    notify : callable, optional
        Gets a line when memory is full and the work goes on in smaller pieces.

    Attributes
    ----------
    batch : int
        Planes that fit at once, as far as is known.
    tile : int or None
        Side of the tiles, None for whole frames, as far as is known.
    """

    def __init__(
        self,
        magnifier: Magnifier,
        device: torch.device,
        precision: str,
        size: tuple[int, int],
        tile: int | None = None,
        batch: int = 1,
        check: Callable[[], None] = lambda: None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.magnifier = magnifier.eval().to(device).to(memory_format=torch.channels_last)
        self.device = device
        self.precision = precision
        self.batch = batch
        self._beside = magnifier.light and device.type == "cpu"
        if device.type == "cpu":
            keep_heap()
        self.tile = _default_tile(size) if tile is None else (tile or None)
        self._size = size
        # Where pictures of the whole frame are kept; moved to the CPU if the GPU cannot hold them.
        self._store = device
        self._check = check
        self._notify = notify or _logger.warning
        self._kept = _Kept(cache_budget(device))
        # On a card it takes little, and nothing before the same is to be done a second time.
        small = size[0] * size[1] <= _CAPTURED_PIXELS
        ready = small and device.type == "cuda" and magnifier.recordable
        self._recorded = Recorded(self.magnifier) if ready else None

    def passes(self, strength: Strength) -> int:
        """Return how often the magnifier is applied, or raise :class:`FlowmagError` if it cannot.

        See :meth:`~napari_flowmag.strength.Strength.passes`.
        """
        return strength.passes(self.magnifier.alpha_range)

    def expect(self, planes: int) -> None:
        """Learn how many planes are going to be magnified, and prepare for many."""
        many = planes >= _MANY and self._size[0] * self._size[1] <= _RECORDED_PIXELS
        if many and self.device.type == "cpu" and self.magnifier.recordable:
            self._recorded = self._recorded or Recorded(self.magnifier)

    def forget(self) -> None:
        """Give up kept results."""
        self._recorded = None
        self._kept.clear()

    def magnify(
        self,
        view: View,
        reference: NDArray[Any],
        frames: NDArray[Any],
        strength: Strength,
        limits: ValueRange,
        key: Hashable = None,
    ) -> NDArray[Any]:
        """Magnify the motion of planes.

        Parameters
        ----------
        view : View
            Channels to repaint.
        reference : ndarray
            (1, Y, X, channels), or (B, Y, X, channels) if each frame has its own.
        frames : ndarray
            (B, Y, X, channels) of the clip.
        strength : Strength
            By how much.
        limits : ValueRange
            Range of each channel of the clip, to which the results are clipped.
        key : hashable, optional
            Names the reference: what is computed from it alone is kept for later calls.

        Returns
        -------
        ndarray
            (B, Y, X, moved channels of the view), of the type of ``frames``.

        Raises
        ------
        FlowmagError
            If memory does not even suffice for the smallest piece.
        """

        def batch(rows: slice) -> NDArray[Any]:
            own = reference if len(reference) == 1 else reference[rows]
            with interruptible(self._check):  # in the thread that computes
                return self._batch(view, own, frames[rows], strength, limits, key)

        done: list[NDArray[Any]] = []
        at = 0
        while at < len(frames):
            try:
                done.append(self._together(batch, range(len(frames))[at : at + self.batch]))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                at += self.batch
                continue
            # Out of the except clause: the error holds on to the memory that is to be freed.
            self._shrink()
        return done[0] if len(done) == 1 else np.concatenate(done)

    def _together(self, batch: Callable[[slice], NDArray[Any]], rows: range) -> NDArray[Any]:
        """Magnify frames at once, or side by side, each with its share of the cores.

        Small operations are over before two cores have shared them; a frame for each core keeps
        all busy, and while other programs compute no core waits for another after every operation.
        """
        workers = min(len(rows), process_threads()) if self._beside else 1
        if workers == 1:
            return batch(slice(rows.start, rows.stop))
        alone = [slice(row, row + 1) for row in rows]
        return np.concatenate(side_by_side(batch, alone, workers))

    @torch.inference_mode()
    def _batch(
        self,
        view: View,
        reference: NDArray[Any],
        frames: NDArray[Any],
        strength: Strength,
        limits: ValueRange,
        key: Hashable,
    ) -> NDArray[Any]:
        size, count = self._size, len(frames)
        numbers = view.numbers(frames, self._store)
        reference_numbers = view.numbers(reference, self._store)
        allowed = view.allowed(limits, numbers, reference_numbers)
        still, moving = _pad(view.picture(reference_numbers)), _pad(view.picture(numbers))
        del numbers, reference_numbers  # the network needs the room
        passes = self.passes(strength)
        alpha = _pad_alpha(strength.tensor(count, passes, self._store))
        kept = self._kept if key is not None else _Kept(self._kept.budget)
        still_motion = view.motion_image(still)
        show = functools.partial(self.magnifier.show, still)
        for _ in range(passes):
            motion = view.motion_image(moving)
            prediction = self._predict(kept, (key, view.channels), still_motion, motion, alpha)
            # After what was prepared, which is more work where there is no room for both.
            shown = _expand(kept.get(((key, view.channels), "shown"), show), count)
            moving = self._computes.render(prediction, shown, moving, alpha)
            if moving.shape[1] > len(view.channels):  # one channel that was shown several times
                moving = moving.mean(1, keepdim=True)
        return view.planes(moving[..., : size[0], : size[1]], allowed, frames.dtype)

    @property
    def _computes(self) -> Magnifier | Recorded:
        return self._recorded or self.magnifier

    def _predict(
        self, kept: _Kept, key: Hashable, reference: Tensor, frame: Tensor, alpha: Alpha
    ) -> Tensor:
        pieces = tiles(frame.shape[-2], frame.shape[-1], self.tile, self.magnifier.context)
        part = self._predict_tile(kept, (key, 0), pieces[0], reference, frame, alpha)
        if len(pieces) == 1:
            return part.to(self._store)
        total = part.new_zeros(*part.shape[:2], *frame.shape[-2:], device=self._store)
        for number, tile in enumerate(pieces):
            if number > 0:
                part = self._predict_tile(kept, (key, number), tile, reference, frame, alpha)
            weight = torch.from_numpy(tile.weight).to(self._store)
            total[..., tile.rows.slice, tile.columns.slice] += part.to(self._store) * weight
        return total

    def _predict_tile(
        self,
        kept: _Kept,
        key: Hashable,
        tile: Tile,
        reference: Tensor,
        frame: Tensor,
        alpha: Alpha,
    ) -> Tensor:
        self._check()
        rows, columns = tile.rows.slice, tile.columns.slice
        alpha = _to(crop_alpha(alpha, rows, columns), self.device)
        with autocast(self.device, self.precision):
            prepared = kept.get(
                key, lambda: self.magnifier.prepare(self._cut(reference, rows, columns))
            )
            prepared = _expand(prepared, len(frame))
            cut = self._cut(frame, rows, columns)
            prediction: Tensor = self._computes.predict(prepared, cut, alpha)
        return prediction.float()

    def _cut(self, picture: Tensor, rows: slice, columns: slice) -> Tensor:
        # Contiguous, because convolutions of sliced batches have corrupted memory on the CPU;
        # channels last, because convolutions are fastest so.
        cut = picture[..., rows, columns].to(self.device)
        return cut.contiguous(memory_format=torch.channels_last)

    def _shrink(self) -> None:
        """Choose smaller pieces after memory was full."""
        self._kept.budget //= 2
        self.forget()
        release_memory(self.device)
        side = max(self._size)
        if self.batch > 1:
            self.batch //= 2
            self._notify(f"memory is full: going on with {self.batch} frames at once")
        elif min(self.tile or side, side) > MIN_TILE:
            self.tile = max(min(self.tile or side, side) // 2, MIN_TILE)
            self._notify(f"memory is full: going on with tiles of {self.tile} px")
        elif self._store.type != "cpu":
            self._store = torch.device("cpu")
            self._notify("memory is full: going on with whole frames kept off the GPU")
        else:
            raise FlowmagError(
                f"memory of {self.device} is full even with tiles of {MIN_TILE} px: "
                "close other programs or take a smaller model"
            )


class _Kept:
    """Results that are computed once, as many as a budget of bytes holds; at least one."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._results: dict[Hashable, Any] = {}
        self._bytes = 0
        self._making = threading.Lock()  # frames side by side wait for what they share

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._making:
            if key in self._results:
                return self._results[key]
            result = make()
            size = _bytes(result)
            if not self._results or self._bytes + size <= self.budget:
                self._results[key] = result
                self._bytes += size
            return result

    def clear(self) -> None:
        self._results.clear()
        self._bytes = 0


def _default_tile(size: tuple[int, int]) -> int | None:
    return None if size[0] * size[1] <= WHOLE_FRAME else _AUTO_TILE


def _pad(picture: Tensor) -> Tensor:
    """Repeat the last row and column of a picture that is too small for a network."""
    height, width = picture.shape[-2:]
    padding = (0, max(_MIN_SIDE - width, 0), 0, max(_MIN_SIDE - height, 0))
    return F.pad(picture, padding, mode="replicate") if any(padding) else picture


def _pad_alpha(alpha: Alpha) -> Alpha:
    if isinstance(alpha, MaskedAlpha):
        inside = _pad(alpha.alpha) if alpha.alpha.ndim == 4 else alpha.alpha
        return MaskedAlpha(inside, _pad(alpha.mask), alpha.outside)
    return _pad(alpha) if alpha.ndim == 4 else alpha


def _to(alpha: Alpha, device: torch.device) -> Alpha:
    moved: Alpha = filled(alpha, (part.to(device) for part in tensors(alpha)))
    return moved


def _expand(prepared: Any, batch: int) -> Any:
    """Repeat what was prepared from one reference for each frame of a batch, without a copy."""
    return filled(prepared, (part.expand(batch, *part.shape[1:]) for part in tensors(prepared)))


def _bytes(prepared: Any) -> int:
    return sum(part.numel() * part.element_size() for part in tensors(prepared))
