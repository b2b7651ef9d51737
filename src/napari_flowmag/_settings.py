"""What the user chose on napari's page of preferences for flowmag."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PluginSettings:
    """Defaults of the docks, as the manifest declares them.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    alpha : float
        Magnification that a new dock starts with.
    tile : int
        Largest side in px of what the model sees at once; 0: chosen by itself.
    dock_with_clip : bool
        Whether a clip that flowmag's reader opens brings the Magnify dock along.
    """

    device: str = "auto"
    alpha: float = 8.0
    tile: int = 0
    dock_with_clip: bool = True


def plugin_settings() -> PluginSettings:
    """Return the settings in use; the defaults where napari does not know the plugin."""
    from napari.settings import get_plugin_settings

    try:
        chosen = get_plugin_settings("flowmag").magnify
    except (KeyError, AttributeError):  # installed without its manifest, or the page is disabled
        return PluginSettings()
    return PluginSettings(
        device=str(chosen.device),
        alpha=float(chosen.alpha),
        tile=int(chosen.tile),
        dock_with_clip=bool(chosen.dock_with_clip),
    )
