"""What a user chooses for an adaptation: one frozen object for all faces.

Free of torch, so that faces can show every setting without loading it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from napari_flowmag.errors import FlowmagError
from napari_flowmag.settings import MagnifySettings

if TYPE_CHECKING:
    from typing import Self

What = Literal["all", "decoder", "affine"]

WHAT: tuple[What, ...] = ("all", "decoder", "affine")
"""Parts of a magnifier that can be fine-tuned."""

SCHEDULES = ("cosine", "constant")

MIN_CROP = 32
"""Smallest side in px of what is learnt from."""


@dataclass(frozen=True)
class AdaptSettings:
    """Settings of an adaptation; what is not given is the preset ``default``'s.

    Attributes
    ----------
    alpha : float
        Magnification that the model will be asked for.
    alpha_range : (float, float), optional
        Magnifications to learn, drawn evenly in their logarithm. None: from `alpha` divided to
        `alpha` multiplied by `spread`.
    spread : float
        How far around `alpha`, as a factor from 1.
    preset : str
        Name of the preset that these settings began as, for the record.
    steps : int, optional
        Steps of the optimiser.
    epochs : int, optional
        Times that every pair is seen, in place of `steps`.
    minutes : float, optional
        Time budget; what ends first, ends it. At least one of the three is given.
    what : {"all", "decoder", "affine"}
        What is fine-tuned: all weights; those that turn features into the result; or
        scales and offsets alone (normalisation and biases).
    lr : float
        Largest learning rate of Adam.
    schedule : {"cosine", "constant"}
        Whether the rate falls to 0 along the budget or stays.
    warmup : int
        Steps over which the rate rises.
    clip_gradient : float
        Largest norm of the gradient; 0 sets no bound.
    batch : int
        Pairs in a step.
    crop : int
        Side in px of what is cut out of a pair; frames that are smaller are padded with 0 where
        `pad` says so, and taken whole otherwise.
    pad : bool
        Whether smaller frames are padded.
    rotation : float
        Largest rotation in degrees.
    stretch : float
        Height and width are stretched independently by ``stretch ** U(-1, 1)``.
    flip : float
        Probability of a flip, each way.
    jitter : tuple of float
        Largest change of brightness, contrast, saturation (factors) and hue (turns).
    focus : float
        Share of the crops that are laid where the mask is, or, without one, where the clip moves.
    update_norm : bool
        Whether batch normalisation uses and tracks the crops' own statistics.
    magnification_weight, colour_weight : float
        Weights of Eq. 3 and Eq. 4.
    flows : tuple of str
        Flow estimators in the loss, which is the mean over them: what
        :func:`~napari_flowmag.flow.load_flow` takes, with gradients.
    flow_options : dict
        Name of an estimator → its options.
    held_back : int
        Pairs that are never learnt from; of short clips at most a quarter of all.
    check_every : int
        Steps between two looks at the held-back pairs.
    tolerance : float
        Least relative gain in the held-back loss that counts as one.
    seed : int
        Seed of everything random.
    mask : str, optional
        File with a picture of the frames' size, or one for each frame: what moves where it is not
        0 is learnt first.
    reference, motion_channels, channels, z, start, stop, value_range, device
        As in :class:`~napari_flowmag.settings.MagnifySettings`.

    Raises
    ------
    FlowmagError
        If a value makes no sense whatever the clip.
    """

    alpha: float = 8.0
    alpha_range: tuple[float, float] | None = None
    spread: float = 1.7
    preset: str = "default"
    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    what: What = "all"
    lr: float = 3e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = 10
    clip_gradient: float = 1.0
    batch: int = 2
    crop: int = 192
    pad: bool = False
    rotation: float = 0.0
    stretch: float = 1.0
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    focus: float = 0.5
    update_norm: bool = False
    magnification_weight: float = 1.0
    colour_weight: float = 10.0
    normalise: float | None = None
    flows: tuple[str, ...] = ("lucas_kanade",)
    flow_options: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"lucas_kanade": {"sigma": 5.0}}
    )
    held_back: int = 6
    check_every: int = 20
    tolerance: float = 0.002
    seed: int = 0
    mask: str | None = None
    reference: int | str = "first"
    motion_channels: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    z: int | None = None
    start: int | None = None
    stop: int | None = None
    value_range: tuple[float, float] | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.steps is None and self.epochs is None and self.minutes is None:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
        if isinstance(self.reference, bool):
            raise FlowmagError(f"reference {self.reference}: give a frame's number or a name")
        if self.steps is not None and self.epochs is not None:
            raise FlowmagError("steps and epochs: give one of the two")
        _require(bool(self.flows), "flows", self.flows, "give at least one")
        self._check_shared()
        self._check_numbers()
        for name, known in (("what", WHAT), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise FlowmagError(f"{name} '{getattr(self, name)}': give {', '.join(known)}")
        if self.alpha_range is not None:
            low, high = self.alpha_range
            _require(0 < low <= high < math.inf, "alpha range", self.alpha_range, "give two "
                     "rising numbers above 0")  # fmt: skip
        _require(
            all(0 <= x <= 1 for x in self.jitter) and self.jitter[3] <= 0.5,
            "jitter",
            self.jitter,
            "give three factors from 0 to 1 and a hue from 0 to 0.5",
        )

    def _check_shared(self) -> None:
        """Let the settings of a magnification judge what both have, and take its plain values."""
        shared = MagnifySettings(**{name: getattr(self, name) for name in _SHARED})
        for name in _SHARED:
            object.__setattr__(self, name, getattr(shared, name))
        _require(self.alpha > 0, "alpha", self.alpha, "adapting needs one above 0")

    def _check_numbers(self) -> None:
        for name in ("steps", "epochs", "batch", "check_every", "held_back"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "give 1 or more")
        for name in ("minutes", "lr", "stretch", "normalise"):
            value = getattr(self, name)
            _require(value is None or 0 < value < math.inf, name, value, "give a number above 0")
        for name in ("warmup", "clip_gradient", "magnification_weight", "colour_weight",
                     "tolerance", "seed"):  # fmt: skip
            _require(0 <= getattr(self, name) < math.inf, name, getattr(self, name),
                     "give 0 or more")  # fmt: skip
        for name in ("flip", "focus"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "give 0 to 1")
        _require(0 <= self.rotation <= 45, "rotation", self.rotation, "give 0 to 45 degrees")
        _require(1 <= self.spread < math.inf, "spread", self.spread, "give 1 or more")
        _require(self.crop >= MIN_CROP, "crop", self.crop, f"give {MIN_CROP} px or more")

    @classmethod
    def of(cls, preset: str = "default", **changes: Any) -> Self:
        """Return the settings of a preset, with some changed.

        A budget that is given (`steps`, `epochs`, `minutes`) takes the place of the preset's.

        Raises
        ------
        FlowmagError
            If there is no such preset or a value makes no sense.
        """
        if preset not in PRESETS:
            raise FlowmagError(f"preset '{preset}': give {', '.join(PRESETS)}")
        values = dict(PRESETS[preset])
        if any(changes.get(name) is not None for name in _BUDGET):
            values = {name: value for name, value in values.items() if name not in _BUDGET}
        return cls(**{**values, "preset": preset, **changes})

    @classmethod
    def for_magnification(
        cls, magnification: MagnifySettings, preset: str = "default", **changes: Any
    ) -> Self:
        """Return the settings that adapt a model to what a magnification asks of it.

        Its alpha (where labels have their own: all of them), reference, channels, frames, range
        of values and device are taken over.
        """
        shared = {name: getattr(magnification, name) for name in _SHARED}
        asked = [magnification.alpha, *(alpha for _, alpha in magnification.label_alphas)]
        asked = [alpha for alpha in asked if alpha not in (0, 1)] or [magnification.alpha]
        made = cls.of(preset, **{**shared, "alpha": max(asked), **changes})
        if made.alpha_range is None and len(asked) > 1:
            ends = (min(asked) / made.spread, max(asked) * made.spread)
            made = made.replace(alpha_range=ends)
        return made

    def total_steps(self, pairs: int) -> int | None:
        """Return the steps of the whole run with this many pairs, None if only time counts."""
        if self.epochs is not None:
            return max(1, self.epochs * math.ceil(pairs / self.batch))
        return self.steps

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary that JSON can hold."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            name: dict(value) if isinstance(value, Mapping)
            else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }  # fmt: skip


DEFAULT_STEPS = 200

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        # Pan, Geng, Owens, NeurIPS 2023, and the published code: fine-tuning on the input.
        "paper": {
            "alpha_range": (1.0, 16.0),
            "epochs": 3,
            "what": "all",
            "lr": 1e-4,
            "schedule": "constant",
            "warmup": 0,
            "clip_gradient": 0.0,
            "batch": 8,
            "crop": 512,
            "pad": True,
            "rotation": 5.0,
            "stretch": 1.1,
            "flip": 0.0,
            "jitter": (0.5, 0.5, 0.5, 0.3),
            "focus": 0.0,
            "update_norm": True,
            "magnification_weight": 1.0,
            "colour_weight": 10.0,
            "flows": ("default",),
        },
    }
)
"""Named settings: ours, and the published recipe (whose reference is the first frame)."""

_BUDGET = ("steps", "epochs", "minutes")

_SHARED = (
    "alpha", "mask", "reference", "motion_channels", "channels", "z", "start", "stop",
    "value_range", "device",
)  # fmt: skip


def _require(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise FlowmagError(f"{name.replace('_', ' ')} {value}: {rule}")
