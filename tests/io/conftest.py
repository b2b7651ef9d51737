from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

Encode = Callable[..., Path]


@pytest.fixture(scope="session")
def levels() -> np.ndarray:
    """Grey level of each frame of the videos that `encode` makes: each one tells its number."""
    return np.linspace(20, 230, 36).astype(np.uint8)


@pytest.fixture(scope="session")
def encode(levels) -> Encode:
    """Write a video with a codec: `levels` as flat frames of 64×48 px, or the frames given."""

    def write(path, codec, pixels, *, frames=None, times=None, options=None):
        if frames is None:
            scale = {"gray16le": 257, "gray10le": 4}.get(pixels, 1)
            kind = np.uint16 if scale > 1 else np.uint8
            frames = [np.full((48, 64), level.astype(kind) * scale) for level in levels]
        rate = Fraction(1000 if times else 25)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixels
            stream.codec_context.gop_size = 10
            for number, values in enumerate(frames):
                given = pixels if pixels.startswith("gray1") else "gray"
                frame = av.VideoFrame.from_ndarray(
                    values, format="rgb24" if values.ndim == 3 else given
                ).reformat(format=pixels)
                frame.pts = times[number] if times else number
                frame.time_base = 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
