"""Synthetic people: an integer becomes a clothed person, its pictures and its clips."""

from reference.people.animate import animate, settle
from reference.people.fits import FitNoise
from reference.people.light import Light
from reference.people.mixture import Mixture
from reference.people.person import Person, PersonState
from reference.people.render import render
from reference.people.sampling import (
    Clip,
    Shot,
    light_of,
    pose_clip,
    reference_shot,
    view_clip,
)
from reference.people.videos import video_clip

__all__ = [
    "Clip",
    "FitNoise",
    "Light",
    "Mixture",
    "Person",
    "PersonState",
    "Shot",
    "animate",
    "light_of",
    "pose_clip",
    "reference_shot",
    "render",
    "settle",
    "video_clip",
    "view_clip",
]
