"""File formats: containers only, no clinical knowledge."""

from __future__ import annotations
