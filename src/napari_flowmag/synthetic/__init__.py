"""Synthetic clips and frame pairs whose motion is known exactly.

`clips` renders textured clips for measuring a magnifier, `scenes` the two scenes of
``flowmag demo``.
"""
