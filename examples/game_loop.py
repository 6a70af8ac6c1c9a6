"""A game that shows an avatar and never waits for it.

The loop runs at the display's rate. Each turn it hands over the newest pose (`push`), takes what is
ready (`poll`), and draws the last frame it got; neither call waits for a frame to be made. Loading
happens on a thread of its own, with a bar, and ends when the window is closed.

    python examples/game_loop.py A.avatar --motion walk.npz
    SDL_VIDEODRIVER=dummy python examples/game_loop.py A.avatar --motion walk.npz --frames 300

Escape or closing the window ends it. Needs pygame-ce.
"""

from __future__ import annotations

import argparse
import json
import threading
import time

import numpy as np
import pygame

import gas_rt

SIZE, SCALE = (640, 480), 1.6
DISPLAY_HZ, AVATAR_FPS = 60, 25


class Loading:
    """Loads the model and opens the session while the game goes on."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.share, self.doing = 0.0, "loading"
        self.session: gas_rt.Session | None = None
        self.error: Exception | None = None
        self.camera: gas_rt.Camera | None = None
        self._model: gas_rt.Model | None = None
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._load, args=(args,))
        self._thread.start()

    def _load(self, args: argparse.Namespace) -> None:
        try:
            model = self._model = gas_rt.load(args.model)
            avatar = model.open_avatar(args.avatar)
            body = model.performer(avatar).pose(avatar.pose).body
            self.camera = gas_rt.framing_camera(body.vertices, side_px=256, fill=0.7)
            self.session = model.session(
                avatar,
                policy=args.policy,
                fps=AVATAR_FPS,
                on_late="freshest",
                progress=self._tell,
                cancel=self._cancel,
            )
        except gas_rt.BuildCancelledError:
            pass  # the window was closed
        except Exception as error:  # raised again where the game would see it
            self.error = error

    def _tell(self, share: float, doing: str) -> None:
        self.share, self.doing = share, doing

    def close(self) -> None:
        self._cancel.set()
        self._thread.join()
        if self._model is not None:
            self._model.close()  # and the session with it


class Picture:
    """The avatar's newest frame as a surface; its memory is taken once."""

    def __init__(self, side: int) -> None:
        self._rgba = np.zeros((side, side, 4), np.uint8)
        self._surface = pygame.image.frombuffer(self._rgba, (side, side), "RGBA")
        self.captured_ns: int | None = None

    def update(self, frame: gas_rt.Frame) -> None:
        self._rgba[..., :3], self._rgba[..., 3] = frame.rgb, frame.alpha
        self.captured_ns = frame.timings.captured_ns
        frame.release()  # copied: its memory may be used for the next one

    def draw(self, screen: pygame.Surface) -> None:
        side = round(self._surface.get_width() * SCALE)
        shown = pygame.transform.smoothscale(self._surface, (side, side))
        at = ((SIZE[0] - side) // 2, SIZE[1] - side)
        screen.blit(shown, at, special_flags=pygame.BLEND_PREMULTIPLIED)


def draw_world(screen: pygame.Surface, seconds: float) -> None:
    """A floor that moves, so that a game that stalls is seen to."""
    screen.fill((70, 110, 160))
    pygame.draw.rect(screen, (60, 90, 60), (0, 380, SIZE[0], 100))
    for k in range(-1, 9):
        x = k * 80 - (seconds * 120) % 80
        pygame.draw.line(screen, (90, 130, 90), (x + 60, 380), (x, SIZE[1]), 3)


def play(args: argparse.Namespace) -> dict[str, float | int | None]:
    """Run the game; what it measured."""
    screen = pygame.display.set_mode(SIZE)
    font, clock = pygame.font.Font(None, 26), pygame.time.Clock()
    poses = [gas_rt.root_locked(p) for p in gas_rt.Motion.load(args.motion).resampled(AVATAR_FPS)]
    loading = Loading(args)
    picture, tick, shown, ages_ms, calls_ms = Picture(256), 0, 0, [], []
    began, last_pose = time.monotonic(), -1
    try:
        while args.frames is None or tick < args.frames:
            for event in pygame.event.get():
                escape = event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE
                if event.type == pygame.QUIT or escape:
                    return summary(tick, shown, ages_ms, calls_ms)
            if loading.error is not None:
                raise loading.error
            seconds = time.monotonic() - began
            draw_world(screen, seconds)
            session = loading.session
            if session is None:
                pygame.draw.rect(screen, (230, 230, 230), (120, 240, 400 * loading.share, 12))
                text = loading.doing
            else:
                tick += 1
                before = time.perf_counter()
                now_pose = int(seconds * AVATAR_FPS)
                if now_pose != last_pose:  # a tracker would hand over what came last
                    session.push(poses[now_pose % len(poses)], loading.camera)
                    last_pose = now_pose
                frame = session.poll()
                calls_ms.append((time.perf_counter() - before) * 1e3)
                if frame is not None:
                    picture.update(frame)
                    shown += 1
                text = "waiting for the first frame"
                if picture.captured_ns is not None:
                    picture.draw(screen)
                    ages_ms.append((time.monotonic_ns() - picture.captured_ns) / 1e6)
                    text = f"age of pose {ages_ms[-1]:.0f} ms, game {clock.get_fps():.0f} fps"
            screen.blit(font.render(text, True, (255, 255, 255)), (12, 12))
            pygame.display.flip()
            clock.tick(DISPLAY_HZ)
        return summary(tick, shown, ages_ms, calls_ms)
    finally:
        loading.close()


def summary(
    ticks: int, shown: int, ages_ms: list[float], calls_ms: list[float]
) -> dict[str, float | int | None]:
    """What the game saw of the avatar; `push_poll_ms_max` is the longest it was held up."""
    return {
        "ticks": ticks,
        "shown": shown,
        "age_ms_p50": round(float(np.median(ages_ms)), 1) if ages_ms else None,
        "push_poll_ms_p50": round(float(np.median(calls_ms)), 3) if calls_ms else None,
        "push_poll_ms_max": round(max(calls_ms), 3) if calls_ms else None,
    }


def main() -> None:
    """Read the flags, play, say what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("avatar", metavar="A.avatar")
    parser.add_argument("--motion", required=True, metavar="M.npz")
    parser.add_argument("--model", default="gas-mini", metavar="NAME")
    parser.add_argument("--policy", metavar="P", help="default: the model's")
    parser.add_argument("--frames", type=int, metavar="N", help="end after N turns with an avatar")
    args = parser.parse_args()
    pygame.display.init()
    pygame.font.init()
    try:
        print(json.dumps(play(args)))
    finally:
        pygame.quit()


if __name__ == "__main__":
    main()
