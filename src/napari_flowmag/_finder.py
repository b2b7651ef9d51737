"""Segmenters in memory, with what they know of the pictures they have seen: no Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag._preload import preload_torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_flowmag.segment import Prompt
    from napari_flowmag.segment.sam import Prepared


class Finder:
    """Finds objects, with the segmenter used last kept in memory; for one thread at a time."""

    def __init__(self) -> None:
        self._segmenter: Any = None
        self._checkpoint = ""
        self._known: Prepared | None = None

    def find(
        self,
        checkpoint: str,
        picture: Callable[[], NDArray[Any]],
        key: Any,
        prompt: Prompt,
        check: Callable[[], None],
    ) -> NDArray[np.bool_]:
        """Return the mask of an object, (H, W).

        Parameters
        ----------
        checkpoint : str
            Of Segment Anything; empty: by appearance, without weights.
        picture : callable
            Reads the picture.
        key : hashable
            Names the picture, so that it need not be looked at again for another prompt, until
            :meth:`forget`.
        prompt : Prompt
            What the user says about the object.
        check : callable
            Called now and then; may raise to stop.

        Raises
        ------
        FlowmagError
            If the checkpoint cannot be used, or the prompt does not fit the picture.
        """
        segmenter, known = self._loaded(checkpoint)
        prepared = known.get(key, lambda: segmenter.prepare(picture(), check))
        found = np.asarray(segmenter.segment(prepared, prompt))
        check()  # nobody waits for it any more, perhaps
        return found

    def forget(self) -> None:
        """Forget the pictures; the segmenter stays. One that is looked at now is not kept."""
        if self._known is not None:
            self._known = type(self._known)()

    def _loaded(self, checkpoint: str) -> tuple[Any, Prepared]:
        from napari_flowmag.segment.classical import AppearanceSegmenter
        from napari_flowmag.segment.sam import Prepared, SamSegmenter

        if self._segmenter is None or self._known is None or self._checkpoint != checkpoint:
            if checkpoint:
                preload_torch()
            self._segmenter = SamSegmenter(checkpoint) if checkpoint else AppearanceSegmenter()
            self._checkpoint, self._known = checkpoint, Prepared()
        return self._segmenter, self._known
