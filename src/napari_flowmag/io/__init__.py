"""Read and write clips."""

from __future__ import annotations
