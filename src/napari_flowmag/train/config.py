"""Typed settings of a training run.

Free of torch, so that the command line can list every setting without loading it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class LoopConfig:
    """How to optimise, for how long, and where results go.

    Parameters
    ----------
    out
        Folder of the run: weights, resumable state, metrics.
    steps
        Number of optimiser steps. Not used when `minutes` is given.
    minutes
        Wall-clock budget. The schedule then follows the clock instead of the step count.
    lr
        Peak learning rate of AdamW.
    weight_decay
        Decay of weights with two or more dimensions (biases and norms are left alone).
    warmup
        Number of steps over which the learning rate rises linearly from zero.
    schedule
        How the learning rate falls from its peak to zero.
    clip
        Largest gradient norm; 0 switches clipping off.
    ema
        Decay of the averaged weights that are exported; 0 exports the last weights.
    precision
        Arithmetic of the forward pass.
    accumulate
        Batches per optimiser step.
    workers
        Processes that prepare batches; 0 prepares them in the training process.
    save_every
        Steps between saves of state and weights.
    validate_every
        Steps between validations; 0 validates at the end only.
    log_every
        Steps between lines of metrics.
    seed
        Seed of everything random, below 2^63: batches are a function of (seed, step) alone.
    threads
        CPU threads of the training process; unset leaves torch's choice.
    device
        Where to train: auto takes a GPU when there is one.
    devices
        Processes on this machine that share each batch, one for each GPU. Not used under torchrun
        and srun, which know better.
    nodes
        Machines; their processes are started by torchrun or srun.
    """

    out: Path
    steps: int = 20_000
    minutes: float | None = None
    lr: float = 3e-4
    weight_decay: float = 0.0
    warmup: int = 100
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accumulate: int = 1
    workers: int = 1
    save_every: int = 500
    validate_every: int = 1000
    log_every: int = 50
    seed: int = 0
    threads: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "save_every", "log_every", "devices", "nodes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("weight_decay", "warmup", "clip", "workers", "validate_every", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")
        # torch takes 64 bits, and steps are added to it.
        require(self.seed < 2**63, "seed", self.seed, "must be below 2^63")
        require(self.lr > 0, "lr", self.lr, "must be above 0")
        require(0 <= self.ema < 1, "ema", self.ema, "must be at least 0 and below 1")
        require(
            self.minutes is None or self.minutes > 0, "minutes", self.minutes, "must be above 0"
        )
        require(
            self.threads is None or self.threads >= 1, "threads", self.threads, "must be at least 1"
        )


@dataclass(frozen=True)
class AugmentConfig:
    """How a pair is varied; the defaults are the paper's, with a smaller crop.

    Both frames of a pair are cut, turned and coloured alike. Noise is drawn for each frame by
    itself, after everything else; the loss judges the frames without it.

    Parameters
    ----------
    crop
        Height and width of a training picture in px (the paper: 512).
    window
        What `area` is a share of. picture: a window of that share of the picture is scaled to
        the crop (the paper). crop: the crop is that share of the window, so that motions keep
        about their size in px.
    area
        Smallest and largest share.
    flip
        Probability of a flip, each way.
    rotation
        Largest rotation in degrees.
    jitter
        Largest change of brightness, contrast, saturation (factors) and hue (turns).
    grey
        Probability of a grey picture.
    swap
        Probability that the two frames change places.
    still
        Probability that both frames are the same, so that there is no motion but noise.
    noise
        Largest standard deviation of the noise; pictures lie in 0 … 1.
    """

    crop: int = 256
    window: Literal["picture", "crop"] = "picture"
    area: tuple[float, float] = (0.7, 1.0)
    flip: float = 0.5
    rotation: float = 15.0
    jitter: tuple[float, float, float, float] = (0.5, 0.5, 0.5, 0.3)
    grey: float = 0.0
    swap: float = 0.0
    still: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        require(self.crop >= 32, "crop", self.crop, "must be at least 32 px")
        low, high = self.area
        require(0 < low <= high <= 1, "area", self.area, "give two rising shares within 0 and 1")
        require(0 <= self.rotation <= 45, "rotation", self.rotation, "give degrees from 0 to 45")
        for name in ("flip", "grey", "swap", "still", "noise"):
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, "must be from 0 to 1")
        require(
            all(0 <= factor <= 1 for factor in self.jitter) and self.jitter[3] <= 0.5,
            "jitter",
            self.jitter,
            "give three factors from 0 to 1 and a hue from 0 to 0.5",
        )


@dataclass(frozen=True)
class MagnifierConfig:
    """What magnifier to train, and what its loss asks.

    Parameters
    ----------
    architecture
        Kind of magnifier.
    model
        Settings of the architecture, such as the width of the U-Net.
    init
        Magnifier to start from: a name or path that `load_magnifier` takes. Its own
        architecture and settings then hold.
    init_flow
        Flow estimator that the flow part of a field magnifier starts from.
    frozen
        Parts of the network that keep the weights they start from, by the names of its modules:
        `[flow.outlines, flow.shares]` of a field magnifier, which training makes sharper than large
        magnification bears.
    flow
        Flow estimator in the loss, frozen.
    flow_options
        Options of that estimator, such as RAFT's number of updates.
    magnification_weight
        Weight of Eq. 3.
    colour_weight
        Weight of Eq. 4.
    normalise
        Divide Eq. 3 of each pair by (mean |α F| + this many px); unset as in the paper.
    alpha_min
        Smallest magnification asked for; α is drawn evenly in its logarithm.
    alpha_max
        Largest magnification asked for.
    max_motion
        Lower the largest α of a pair so that α times the 95th percentile of its motion is at
        most this many px; unset leaves it.
    batch
        Pairs in a batch.
    synthetic
        Share of random synthetic pairs, whose flow is known, among them.
    synthetic_motion
        Smallest and largest motion scale of synthetic pairs in px.
    synthetic_noise
        Smallest and largest noise of synthetic pairs as a share of their contrast.
    synthetic_light
        Share of synthetic pairs in which light changes across the frame.
    exact_weight
        Weight of the difference from the exact magnified frame, which synthetic pairs have.
    factor_weight
        Weight of how far the motion that a field magnifier finds in a synthetic pair is, as a
        whole, from as large as it is (:func:`~napari_flowmag.train.mixed.factor_error`).
    factor_noise
        Noise of a synthetic pair, as a share of its contrast, from which on that weight holds; in
        pairs with less it is less in proportion. 0: it holds in all.
    textures
        Folder of pictures to texture synthetic pairs with; unset uses procedural textures.
    held_out
        Pairs kept out of training, to validate on.
    """

    architecture: Literal["field", "unet"] = "field"
    model: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    init_flow: str | None = None
    frozen: tuple[str, ...] = ()
    flow: str = "default"
    flow_options: dict[str, Any] = field(default_factory=dict)
    magnification_weight: float = 1.0
    colour_weight: float = 10.0
    normalise: float | None = None
    alpha_min: float = 1.0
    alpha_max: float = 16.0
    max_motion: float | None = None
    batch: int = 8
    synthetic: float = 0.0
    synthetic_motion: tuple[float, float] = (0.02, 4.0)
    synthetic_noise: tuple[float, float] = (0.003, 0.3)
    synthetic_light: float = 0.0
    exact_weight: float = 0.0
    factor_weight: float = 0.0
    factor_noise: float = 0.0
    textures: Path | None = None
    held_out: int = 16

    def __post_init__(self) -> None:
        require(
            0 < self.alpha_min <= self.alpha_max,
            "alpha_min, alpha_max",
            (self.alpha_min, self.alpha_max),
            "give two rising numbers above 0",
        )
        for name in ("normalise", "max_motion"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "must be above 0")
        weights = "magnification_weight", "colour_weight", "exact_weight", "factor_weight"
        for name in (*weights, "factor_noise", "held_out"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")
        require(self.batch >= 1, "batch", self.batch, "must be at least 1")
        for name in ("synthetic", "synthetic_light"):
            share = getattr(self, name)
            require(0 <= share <= 1, name, share, "must be from 0 to 1")
        for name in ("exact_weight", "factor_weight"):
            require(
                self.synthetic > 0 or not getattr(self, name),
                name,
                getattr(self, name),
                "needs synthetic pairs: set synthetic above 0",
            )
        require(
            self.factor_weight > 0 or not self.factor_noise,
            "factor_noise",
            self.factor_noise,
            "says where factor_weight counts: set that above 0",
        )
        for name in ("synthetic_motion", "synthetic_noise"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, (low, high), "give two rising numbers above 0")


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuse a setting.

    Raises
    ------
    FlowmagError
        When the rule does not hold, or a number is not finite, naming the setting, its value and
        the rule.
    """
    numbers = value if isinstance(value, tuple) else (value,)
    finite = all(math.isfinite(number) for number in numbers if isinstance(number, float))
    if not (holds and finite):
        raise FlowmagError(f"setting {name} = {value}: {rule if finite else 'must be finite'}")


def plain(*configs: DataclassInstance) -> dict[str, Any]:
    """Return the settings of some configurations as one dictionary that YAML and JSON can hold."""
    merged = {name: value for config in configs for name, value in asdict(config).items()}
    return {name: _plain(value) for name, value in merged.items()}


def without_places(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return settings with files by their names alone: where they lay is nobody's business."""
    named = {n: Path(settings[n]).name for n in names if settings[n] is not None}
    return {**settings, **named}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
