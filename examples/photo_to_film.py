"""A photo becomes an avatar, and its live frames a film.

python examples/photo_to_film.py PHOTO.png FIT.npz MOTION.npz OUT.mp4 [BUNDLE]
"""

import sys

import gas_rt
from gas_rt.video import VideoWriter

photo, fit, motion, film, *bundle = sys.argv[1:]
with gas_rt.load(*bundle) as model, VideoWriter(film, fps=25) as video:
    avatar = model.enroll(photo, fit)
    poses = [gas_rt.root_locked(pose) for pose in gas_rt.Motion.load(motion).resampled(25)]
    body = model.performer(avatar).pose(poses[0]).body
    camera = gas_rt.framing_camera(body.vertices, side_px=256, fill=0.7)
    for frame in model.stream(avatar, [gas_rt.Request(pose, camera) for pose in poses]):
        video.write(frame.rgb)
    print(f"{film}: {video.frames} frames, the last of a pose {frame.timings.age_ms:.0f} ms old")
