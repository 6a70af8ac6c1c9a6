"""Stage 1: one picture and a body fit in, a canonical radiance field out."""

from reference.nerf.config import PRESETS, FieldConfig, TrainConfig
from reference.nerf.model import CanonicalMesh, HumanNerf

__all__ = ["PRESETS", "CanonicalMesh", "FieldConfig", "HumanNerf", "TrainConfig"]
