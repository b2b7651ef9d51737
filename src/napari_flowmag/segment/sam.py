"""Segment Anything (Kirillov et al. 2023) through the package ``segment-anything``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.segment import Prompt, to_rgb

_NAMES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


@dataclass(frozen=True, eq=False)
class _Prepared:
    features: Any
    original_size: tuple[int, int]
    input_size: tuple[int, int]


class SamSegmenter:
    """A Segment Anything model.

    Parameters
    ----------
    checkpoint : str or Path
        A file of the published models, or of one with other sizes: they are read from the weights.
    device : str
        ``auto``, ``cpu``, ``cuda``, ….

    Attributes
    ----------
    model_type : str
        ``vit_b``, ``vit_l``, ``vit_h`` or, for other widths, ``vit``.

    Raises
    ------
    FlowmagError
        If the package is not installed or the file holds no such model.
    """

    def __init__(self, checkpoint: str | Path, device: str = "auto") -> None:
        from napari_flowmag.device import resolve_device

        try:
            from segment_anything import SamPredictor
        except ImportError as error:
            raise FlowmagError(
                'the package segment-anything is missing: pip install "flowmag[sam]"'
            ) from error
        state = _read(Path(checkpoint))
        model = _build(state, Path(checkpoint))
        width = int(state["image_encoder.pos_embed"].shape[-1])
        self.model_type = _NAMES.get(width, "vit")
        self._predictor = SamPredictor(model.to(resolve_device(device)).eval())

    def prepare(self, image: NDArray[Any], check: Callable[[], None]) -> _Prepared:
        """Compute the image embedding, which takes seconds on a CPU; see the protocol."""
        predictor = self._predictor
        hooks = [
            module.register_forward_pre_hook(lambda module, inputs: check())
            for module in predictor.model.image_encoder.modules()
        ]
        try:
            predictor.set_image(to_rgb(image))
        finally:
            for hook in hooks:
                hook.remove()
        return _Prepared(predictor.features, predictor.original_size, predictor.input_size)

    def segment(self, prepared: _Prepared, prompt: Prompt) -> NDArray[np.bool_]:
        """Decode the best mask; boxes are answered one by one and joined; see the protocol."""
        prompt = prompt.within(*prepared.original_size)
        predictor = self._predictor
        predictor.features = prepared.features
        predictor.original_size = prepared.original_size
        predictor.input_size = prepared.input_size
        predictor.is_image_set = True
        points = np.array([(c, r) for r, c in (*prompt.inside, *prompt.outside)], dtype=np.float32)
        labels = np.array([1] * len(prompt.inside) + [0] * len(prompt.outside))
        boxes: list[NDArray[Any] | None] = [
            np.array([left, top, right, bottom]) for top, left, bottom, right in prompt.boxes
        ]
        found = np.zeros(prepared.original_size, dtype=bool)
        for box in boxes or [None]:
            masks, scores, _ = predictor.predict(
                point_coords=points if len(points) else None,
                point_labels=labels if len(points) else None,
                box=box,
                # One click may mean a part or the whole; more of them mean one thing.
                multimask_output=len(points) == 1 and box is None,
            )
            found |= masks[int(np.argmax(scores))]
        return found


class Prepared:
    """What segmenters know of pictures, kept for the last few: an embedding takes seconds."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what belongs to `key`, made now if it is not there."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def _read(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FlowmagError(f"checkpoint {path} does not exist") from error
    except Exception as error:  # whatever the unpickler makes of bytes that are no pickle
        raise FlowmagError(f"{path} is damaged, or no Segment Anything checkpoint") from error
    if not isinstance(state, Mapping) or "image_encoder.pos_embed" not in state:
        raise FlowmagError(f"{path} is no Segment Anything checkpoint")
    return state


def _build(state: Mapping[str, Any], path: Path) -> Any:
    """Build the model that weights belong to: every size is in their shapes."""
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    try:
        grid, width = (int(n) for n in state["image_encoder.pos_embed"].shape[2:])
        patch = int(state["image_encoder.patch_embed.proj.weight"].shape[-1])
        depth = _count(state, "image_encoder.blocks.")
        spans = [
            (int(state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape[0]) + 1) // 2
            for i in range(depth)
        ]
        head = int(state["image_encoder.blocks.0.attn.rel_pos_h"].shape[1])
        channels = int(state["image_encoder.neck.0.weight"].shape[0])
        encoder = ImageEncoderViT(
            img_size=grid * patch,
            patch_size=patch,
            embed_dim=width,
            depth=depth,
            num_heads=width // head,
            mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
            out_chans=channels,
            use_rel_pos=True,
            window_size=min(spans),
            global_attn_indexes=tuple(i for i, span in enumerate(spans) if span == grid),
        )
        prompts = PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * patch, grid * patch),
            mask_in_chans=int(state["prompt_encoder.mask_downscaling.3.weight"].shape[0]),
        )
        layer = "mask_decoder.transformer.layers."
        decoder = MaskDecoder(
            num_multimask_outputs=int(state["mask_decoder.mask_tokens.weight"].shape[0]) - 1,
            transformer=TwoWayTransformer(
                depth=_count(state, layer),
                embedding_dim=channels,
                mlp_dim=int(state[f"{layer}0.mlp.lin1.weight"].shape[0]),
                num_heads=8,
            ),
            transformer_dim=channels,
            iou_head_depth=_count(state, "mask_decoder.iou_prediction_head.layers."),
            iou_head_hidden_dim=int(
                state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0]
            ),
        )
        model = Sam(encoder, prompts, decoder)
        model.load_state_dict(state)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise FlowmagError(
            f"{path} is no checkpoint of Segment Anything that this version knows"
        ) from error
    return model


def _count(state: Mapping[str, Any], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
