"""Eyes, brows, nose, mouth, beard and glasses, projected onto the face from the front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference.people.fields import Fields, ramp
from reference.people.look import Face, Hair
from reference.people.texture.blend import ellipse, over, shade

F32 = NDArray[np.float32]

__all__ = ["paint_beard", "paint_face", "paint_glasses"]


def _facing(fields: Fields) -> F32:
    """[N] 1 on the front of the head, 0 on its sides and back."""
    forward = np.clip((fields.normal[:, 2] + 0.05) * 5, 0, 1)
    before_ears = ramp(fields.z - fields.anatomy.head.centre[2] - np.float32(0.02), 0.02)
    return np.asarray(forward * before_ears * (fields.neck > 0.3), np.float32)


def paint_face(colours: F32, face: Face, hair: Hair, fields: Fields) -> None:
    """Features of the bare face, in place on colours [N,3]."""
    head = fields.anatomy.head
    facing = _facing(fields)
    x, y = fields.side_x - head.eye[0], fields.y - head.eye[1]
    _cheeks(colours, face, fields, facing)
    _nose(colours, face, fields, facing)
    _eyes(colours, face, x, y, fields.x, facing)
    _brows(colours, face, hair, x, y, facing)
    _mouth(colours, face, fields, facing)


def _cheeks(colours: F32, face: Face, fields: Fields, facing: F32) -> None:
    head = fields.anatomy.head
    middle = 0.5 * (head.nose[1] + head.mouth[1]) + 0.008
    spot = ellipse(fields.side_x - 0.042, fields.y - np.float32(middle), 0.026, 0.022, 1.0)
    warm = tuple(np.clip(np.array(face.skin) * [1.0, 0.68, 0.66], 0, 1))
    over(colours, (warm[0], warm[1], warm[2]), 0.8 * face.blush * spot * facing)
    below = ellipse(fields.x, fields.y - head.chin[1] + 0.035, 0.06, 0.04, 0.8)
    ahead = ramp(fields.z - head.centre[2], 0.03)
    shade(colours, 1 - 0.18 * below * ahead * (fields.neck > 0.3))
    if face.freckles > 0:
        bridge = ellipse(fields.x, fields.y - head.nose[1] - 0.006, 0.055, 0.016, 0.8)
        speck = np.sin(fields.x * 1900) * np.sin(fields.y * 2300) > 0.5
        over(colours, (0.45, 0.25, 0.15), 0.5 * face.freckles * bridge * speck * facing)
    if face.wrinkles > 0.4:
        line = np.abs(fields.side_x - 0.028 - 0.35 * (head.nose[1] - fields.y))
        fold = ramp(np.float32(0.003) - line, 0.003) * ellipse(
            fields.side_x - 0.034, fields.y - head.nose[1] + 0.018, 0.02, 0.022
        )
        shade(colours, 1 - 0.3 * face.wrinkles * fold * facing)


def _nose(colours: F32, face: Face, fields: Fields, facing: F32) -> None:
    head = fields.anatomy.head
    above = fields.y - head.nose[1]
    flank = ramp(np.float32(0.005) - np.abs(fields.side_x - 0.013 + 0.09 * above), 0.006)
    along = ramp(np.minimum(above + 0.006, 0.032 - above), 0.012)
    shade(colours, 1 - 0.17 * flank * along * facing)
    wing = ellipse(fields.side_x - 0.016, above + 0.004, 0.006, 0.009, 0.6)
    shade(colours, 1 - 0.2 * wing * facing)
    tip = ellipse(fields.x, above - 0.004, 0.008, 0.008, 1.0)
    ridge = ramp(np.float32(0.005) - fields.side_x, 0.006) * along
    light = tuple(np.clip(np.array(face.skin) * 1.12 + 0.03, 0, 1))
    over(colours, (light[0], light[1], light[2]), 0.55 * np.maximum(tip, ridge) * facing)
    nostril = ellipse(fields.side_x - 0.0085, above + 0.013, 0.0055, 0.004, 0.6)
    under = ellipse(fields.x, above + 0.016, 0.018, 0.005, 0.9)
    dark = tuple(np.array(face.skin) * [0.42, 0.3, 0.28])
    over(colours, (dark[0], dark[1], dark[2]), np.maximum(0.75 * nostril, 0.3 * under) * facing)


def _eyes(colours: F32, face: Face, x: F32, y: F32, signed_x: F32, facing: F32) -> None:
    size = face.eye_size
    socket = ellipse(x, y - 0.004, 0.025, 0.017, 0.9)
    shade(colours, 1 - 0.22 * socket * facing)
    if face.makeup is not None:
        lid = ellipse(x, y - 0.007, 0.020 * size, 0.010, 0.7)
        over(colours, face.makeup, 0.6 * lid * facing)
    rim = ellipse(x, y - 0.0008, 0.0168 * size, 0.0086 * size, 0.2)
    over(colours, (0.10, 0.07, 0.06), 0.85 * rim * facing)
    white = ellipse(x, y + 0.0012, 0.0148 * size, 0.0068 * size, 0.2)
    over(colours, (0.88, 0.87, 0.85), white * facing)
    inside = np.maximum(white, 0.0)
    iris = ellipse(x, y + 0.0002, 0.0066 * size, 0.0070 * size, 0.25) * inside
    over(colours, face.eyes, iris * facing)
    pupil = ellipse(x, y + 0.0002, 0.0034 * size, 0.0036 * size, 0.3) * inside
    over(colours, (0.04, 0.03, 0.03), pupil * facing)
    glint = ellipse(x - 0.002 * np.sign(signed_x), y - 0.0028, 0.0016, 0.0016, 0.6) * inside
    over(colours, (1.0, 1.0, 1.0), 0.8 * glint * facing)


def _brows(colours: F32, face: Face, hair: Hair, x: F32, y: F32, facing: F32) -> None:
    arch = 0.019 + 0.004 * face.eye_size + face.brow_tilt * x - 9.0 * (x - 0.004) ** 2
    half = 0.0042 * face.brow_thickness * (1 - np.clip(x, 0, 0.03) * 14)
    stroke = ramp(half - np.abs(y - arch), 0.003)
    extent = ramp(np.minimum(x + 0.021, 0.025 - x), 0.006)
    tone = 0.6 * np.array(hair.colour) * (1.0 if hair.colour[1] < 0.6 else 0.75)
    over(colours, (tone[0], tone[1], tone[2]), 0.9 * stroke * extent * facing)


def _mouth(colours: F32, face: Face, fields: Fields, facing: F32) -> None:
    head = fields.anatomy.head
    half = 0.024 * face.mouth_width
    bend = face.smile * 0.009 * (fields.side_x / half) ** 2
    y = fields.y - head.mouth[1] - bend
    lips = ellipse(fields.x, y, half, 0.0095, 0.35)
    over(colours, face.lips, 0.9 * lips * facing)
    if face.smile > 0.6:
        teeth = ellipse(fields.x, y, half * 0.78, 0.0042, 0.3)
        over(colours, (0.25, 0.08, 0.08), ellipse(fields.x, y, half * 0.85, 0.0055) * facing)
        over(colours, (0.95, 0.93, 0.90), teeth * facing)
    else:
        line = ellipse(fields.x, y, half * 1.02, 0.0018, 0.8)
        over(colours, (0.25, 0.10, 0.09), 0.85 * line * facing)
    shade(colours, 1 - 0.2 * ellipse(fields.x, y + 0.015, half * 0.7, 0.004, 0.9) * facing)


def paint_beard(colours: F32, face: Face, hair: Hair, fields: Fields, noise: F32) -> None:
    """Facial hair; noise [N] breaks its edge."""
    if face.beard == "none":
        return
    head = fields.anatomy.head
    x, y = fields.side_x, fields.y
    lip_y = head.mouth[1]
    moustache = ramp(np.minimum(0.007 - np.abs(y - lip_y - 0.0145 + 3.0 * x * x), 0.031 - x), 0.004)
    # From the sideburns down along the cheek to below the jaw.
    cheek = lip_y + 0.004 + np.maximum(x - 0.028, 0) * 1.15
    under = head.chin[1] - 0.028
    jaw = np.minimum(cheek - y, y - under)
    jaw = np.minimum(jaw, fields.z - head.centre[2] + 0.012)
    mouth = 1 - ellipse(fields.x, y - lip_y, 0.027, 0.011, 0.3)
    full = ramp(jaw, 0.008) * mouth
    goatee = ramp(np.minimum(jaw, 0.027 - x), 0.005) * mouth
    cover = {
        "stubble": 0.42 * np.maximum(full, moustache),
        "moustache": moustache,
        "goatee": np.maximum(goatee, moustache),
        "full": np.maximum(full, moustache),
    }[face.beard]
    cover = cover * (fields.neck > 0.3) * (fields.normal[:, 2] > -0.4)
    tone = np.array(hair.colour, np.float32) * 0.8
    paint = np.clip(tone * (1 + 0.35 * noise[:, None]), 0, 1).astype(np.float32)
    over(colours, paint, 0.92 * np.asarray(cover, np.float32))


def paint_glasses(colours: F32, face: Face, fields: Fields) -> None:
    """Frames, lenses and temples, painted flat on the face."""
    if face.glasses == "none":
        return
    head = fields.anatomy.head
    facing = np.clip((fields.normal[:, 2] + 0.3) * 5, 0, 1) * (fields.neck > 0.3)
    facing = facing * ramp(fields.z - head.centre[2] - np.float32(0.02), 0.01)
    x, y = fields.side_x - head.eye[0] - 0.001, fields.y - head.eye[1] + 0.002
    if face.glasses == "square":
        outside = np.maximum(np.abs(x) - 0.0245, np.abs(y) - 0.0165)
    else:
        outside = np.sqrt(x * x + (y * 1.12) ** 2) - np.float32(0.023)
    lens = ramp(-outside, 0.003) * facing
    frame = ramp(np.float32(0.0028) - np.abs(outside), 0.0025) * facing
    bridge = ramp(np.minimum(0.0028 - np.abs(y - 0.004), 0.009 - fields.side_x), 0.002) * facing
    temple = np.minimum(0.003 - np.abs(y - 0.004), fields.side_x - head.eye[0] - 0.02)
    temple = ramp(np.minimum(temple, fields.z - head.ear[2] - 0.004), 0.003) * (fields.neck > 0.3)
    if face.glasses == "sun":
        over(colours, (0.07, 0.07, 0.09), 0.93 * lens)
    else:
        over(colours, (0.85, 0.92, 0.96), 0.12 * lens)
    rim = np.maximum(np.maximum(frame, bridge), temple)
    over(colours, face.glasses_colour, rim.astype(np.float32))
