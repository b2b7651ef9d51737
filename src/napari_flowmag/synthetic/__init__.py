"""Synthetic clips and frame pairs whose motion is known exactly.

`clips` renders textured clips for measuring a magnifier, `scenes` the two scenes of
``flowmag demo``, `beam` a vibrating bar; `blobs` are what `scenes` and `beam` draw with; `pairs`
draws random pairs to train a flow on.
"""
