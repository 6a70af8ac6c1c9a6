"""Joint names that BVH files use for SMPL's joints."""

from __future__ import annotations

import re

__all__ = ["smpl_joints"]

_CENTRE: dict[str, tuple[str, ...]] = {
    "pelvis": ("pelvis", "hips", "hip", "root"),
    "neck": ("neck", "neck1"),
    "head": ("head",),
}
# The joints from pelvis to neck, bottom first, in the spellings that occur together.
_SPINES: tuple[tuple[str, ...], ...] = (
    ("spine1", "spine2", "spine3"),
    ("spine", "spine1", "spine2"),
    ("lowerback", "spine", "spine1"),
    ("spine", "spine1"),
    ("spine", "chest"),
    ("abdomen", "chest"),
    ("spine",),
    ("chest",),
)
# By what spine joints the file's stand for, when it has this many.
_SPINE_TARGETS = {
    1: ("spine2",),
    2: ("spine1", "spine3"),
    3: ("spine1", "spine2", "spine3"),
}
_SIDED: dict[str, tuple[str, ...]] = {
    "hip": ("upleg", "thigh", "hip", "upperleg"),
    "knee": ("leg", "shin", "calf", "knee", "lowerleg"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toe", "ball"),
    "collar": ("shoulder", "collar", "clavicle"),
    "shoulder": ("arm", "upperarm", "uparm", "shldr"),
    "elbow": ("forearm", "lowerarm", "elbow"),
    "wrist": ("hand", "wrist"),
}
# SMPL's own names, which say "shoulder", "foot" and "hand" for other joints than the rest does.
_SMPL_SIDED = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist", "hand")


def _plain(name: str) -> str:
    """Lower case without a namespace, separators and the like: mixamorig:LeftArm -> leftarm."""
    return re.sub(r"[^a-z0-9]", "", name.rpartition(":")[2].lower().removeprefix("mixamorig"))


def smpl_joints(names: list[str]) -> dict[str, int]:
    """SMPL joint name -> index among `names`, for those that are there."""
    index: dict[str, int] = {}
    for i, name in enumerate(names):
        index.setdefault(_plain(name), i)
    found: dict[str, int] = {}
    for joint, spellings in _CENTRE.items():
        for spelling in spellings:
            if spelling in index:
                found.setdefault(joint, index[spelling])
    spine = next((s for s in _SPINES if all(n in index for n in s)), ())
    for target, spelling in zip(_SPINE_TARGETS.get(len(spine), ()), spine, strict=True):
        found[target] = index[spelling]
    # "Elbow" beside "wrist" means SMPL's own names; elsewhere "Shoulder" is the collar bone.
    own = any(f"{side}elbow" in index or f"{side}wrist" in index for side in ("left", "l"))
    for side, prefixes in (("left_", ("left", "l")), ("right_", ("right", "r"))):
        for joint in _SMPL_SIDED:
            spellings = (joint,) if own else _SIDED.get(joint, ())
            keys = [p + s for p in prefixes for s in spellings]
            keys += [s + p for p in prefixes for s in spellings]
            hit = next((index[k] for k in keys if k in index), None)
            if hit is not None:
                found[side + joint] = hit
    found.setdefault("pelvis", 0)
    return found
