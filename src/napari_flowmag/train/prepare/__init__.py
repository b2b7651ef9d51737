"""Building a set of frame pairs to train on from clips: ``flowmag-train prepare``.

:func:`~napari_flowmag.train.prepare.build.prepare` does it. Each clip by itself becomes a
result file (:mod:`.results`) and pictures (:mod:`.measure`), in any process of any machine; what
needs all clips, such as duplicates, the split and the lists, comes last (:mod:`.merge`).
"""
