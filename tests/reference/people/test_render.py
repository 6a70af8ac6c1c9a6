from __future__ import annotations

import numpy as np
from known_people import LONG_HAIR, PRINTED

from gas_rt.cameras import turned
from gas_rt.kernels import rasterize
from reference.people import reference_shot, render, settle, view_clip
from reference.people.camera import LONG_LENS, Lens, framed
from reference.people.fields import Fields
from reference.people.sampling import light_of
from reference.people.seeds import generator


def test_picture_and_mask_agree(person) -> None:
    shot = reference_shot(person(PRINTED), generator(PRINTED, "reference"))
    assert shot.rgb.dtype == shot.mask.dtype == np.uint8
    assert shot.rgb.shape == (128, 128, 3)
    assert (shot.rgb[shot.mask == 0] == 0).all()
    # Premultiplied: no pixel is brighter than its coverage.
    assert (shot.rgb.max(-1).astype(int) <= shot.mask.astype(int) + 1).all()
    inside = shot.rgb[shot.mask == 255].astype(float)
    assert (inside.max(-1) > 12).mean() > 0.99


def test_the_mask_is_the_raster_of_the_state(person) -> None:
    someone = person(LONG_HAIR)
    shot = reference_shot(someone, generator(LONG_HAIR, "reference"))
    state = settle(someone, shot.pose)
    covered = rasterize(state.vertices, someone.mesh.faces, shot.camera).mask
    assert ((shot.mask > 127) != covered).mean() < 0.01


def test_the_person_fills_the_frame(person) -> None:
    for seed in (PRINTED, LONG_HAIR):
        for draw in range(4):
            mask = reference_shot(person(seed), generator(draw, "a test")).mask > 127
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            longest = max(np.ptp(rows), np.ptp(columns)) + 1
            assert 0.83 * 128 <= longest <= 0.94 * 128
            assert abs(rows.mean() - 63.5) < 3


def test_front_and_back_differ_and_hair_is_seen_from_behind(person) -> None:
    someone = person(LONG_HAIR)
    clip = view_clip(LONG_HAIR, someone.body, frames=11, person=someone)
    front, back = clip.rgb[0].astype(float), clip.rgb[10].astype(float)
    assert np.abs(front - back[:, ::-1]).mean() > 4
    rows = np.flatnonzero((clip.mask[10] > 127).any(1))
    head = slice(rows[0] + 2, rows[0] + 11)
    middle = back[head][clip.mask[10][head] > 200]
    seen = middle / np.linalg.norm(middle, axis=1, keepdims=True)
    hair = np.array(someone.look.hair.colour)
    assert np.median(seen @ (hair / np.linalg.norm(hair))) > 0.97


def test_an_orbit_comes_back_and_keeps_its_distance(person) -> None:
    someone = person(PRINTED)
    state = settle(someone, reference_shot(someone, generator(1, "reference")).pose)
    lens = Lens(LONG_LENS, 0.9)
    camera = framed([state.vertices], azimuth=0.2, elevation=0.1, lens=lens, size=64)
    about = someone.clothed.joints[0]
    there = turned(camera, 1.0, centre=about)
    back = turned(there, 2 * np.pi - 1.0, centre=about)
    assert np.allclose(back.rotation, camera.rotation, atol=1e-5)
    assert np.allclose(back.translation, camera.translation, atol=1e-3)
    assert np.allclose(there.rotation @ about + there.translation,
                       camera.rotation @ about + camera.translation, atol=1e-3)  # fmt: skip


def test_rendering_repeats_whatever_the_threads(person) -> None:
    someone = person(LONG_HAIR)
    shot = reference_shot(someone, generator(LONG_HAIR, "reference"))
    state = settle(someone, shot.pose)
    again = render(someone, state, shot.camera, light=light_of(LONG_HAIR), threads=2)
    assert np.array_equal(again[0], shot.rgb)
    assert np.array_equal(again[1], shot.mask)


def test_the_face_is_painted_on_the_front_only(body) -> None:
    from reference.people.canvas import canvas_for
    from reference.people.look import draw_look
    from reference.people.texture.face import paint_face

    fields: Fields = canvas_for(body, 512).texels
    look = draw_look(PRINTED)
    plain = np.full((len(fields.x), 3), 0.5, np.float32)
    painted = plain.copy()
    paint_face(painted, look.face, look.hair, fields)
    touched = np.abs(painted - plain).max(1) > 0.02
    assert touched.sum() > 300
    # The chin's shadow reaches the throat.
    assert (fields.neck[touched] > 0.25).all()
    assert (fields.z[touched] > fields.anatomy.head.centre[2] - 0.03).all()
