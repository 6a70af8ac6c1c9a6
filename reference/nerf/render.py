"""The teacher's picture: every in-shell sample through the network (render mode "exact")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gas_rt.core import Camera
from gas_rt.kernels import PosedShell
from reference.data import Geometry, PhotoGeometry, PointSet
from reference.devices import moved, place_of
from reference.nerf.model import HumanNerf, PersonFeatures
from reference.nerf.volume import composite

__all__ = ["FilledSpace", "encode_photo", "filled_space", "render_view"]

CHUNK = 4096  # points per decoder call: a call's activations stay in a core's cache
LAYER = 8  # samples per ray between two looks at how much light is left
CELL_M = 0.03  # a cell in whose middle there is something counts with its neighbours
EMPTY = 0.05  # 1/m: 20 cm of it take 1 % of the light
GPU_CHUNK, GPU_LAYER = 1 << 18, 24  # there calls cost more than samples that could be left out


@torch.inference_mode()
def encode_photo(model: HumanNerf, photo: PhotoGeometry) -> PersonFeatures:
    """The features of one person (batch of one)."""
    given = (photo.image, photo.vertex_uv, photo.vertex_visible)
    return model.encode(*moved(tuple(torch.from_numpy(v)[None] for v in given), place_of(model)))


@dataclass(frozen=True, eq=False)
class FilledSpace:
    """Which cells of canonical space may hold a person; density has no direction there.

    lo [3] metres, the box's corner; cells [nx,ny,nz] bool, `CELL_M` wide.
    """

    lo: torch.Tensor
    cells: torch.Tensor

    def holds(self, x_can: torch.Tensor) -> torch.Tensor:
        """[N] bool of points [N,3]; of what lies outside of the box nothing is known, so True."""
        at = torch.floor((x_can - self.lo) / CELL_M).long()
        size = torch.tensor(self.cells.shape, device=at.device)
        inside = ((at >= 0) & (at < size)).all(1)
        i, j, k = torch.minimum(at.clamp(min=0), size - 1).unbind(1)
        return self.cells[i, j, k] | ~inside


@torch.inference_mode()
def filled_space(
    model: HumanNerf, person: PersonFeatures, geometry: Geometry, photo: PhotoGeometry
) -> FilledSpace:
    """The cells in whose middle there is something, all their neighbours, and those not known.

    Found once for all pictures of a person, in the time of one.
    """
    place = place_of(model)
    vertices = geometry.body.canonical().vertices
    lo = vertices.min(0) - photo.radius_m
    shape = np.ceil((vertices.max(0) + photo.radius_m - lo) / CELL_M).astype(int)
    middle = (np.stack(np.indices(shape), -1).reshape(-1, 3) + 0.5) * CELL_M + lo
    points: PointSet = moved(geometry.points(middle.astype(np.float32), photo), place)
    found = torch.zeros(len(middle), device=place)
    known = torch.zeros(len(middle), dtype=torch.bool, device=place)
    known[points.ray] = True
    for rows in torch.arange(len(points.ray), device=place).split(_chunk(place)):
        sigma, _ = _evaluate(model, person, points, rows)
        found[points.ray[rows]] = (sigma > EMPTY).float()
    near = F.max_pool3d(found.reshape(1, 1, *shape), 3, 1, 1)[0, 0] > 0
    return FilledSpace(torch.from_numpy(lo).to(place), near | ~known.reshape(*shape))


@torch.inference_mode()
def render_view(
    model: HumanNerf,
    person: PersonFeatures,
    geometry: Geometry,
    photo: PhotoGeometry,
    shell: PosedShell,
    camera: Camera,
    *,
    early_stop: float = 0.0,
    filled: FilledSpace | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """rgb [H,W,3] premultiplied over black, alpha [H,W].

    Samples behind which no more than `early_stop` of the light is left are not evaluated, nor are
    those outside of `filled`; at 0 and without it none that matters is left out.
    """
    place = place_of(model)
    points: PointSet = moved(geometry.samples(shell, camera, photo), place)
    if filled is not None:
        worth = filled.holds(points.x_can)
        points = PointSet(*(values[worth] for values in points))
    rays = camera.width * camera.height
    depth = _rank(points.ray, rays=rays)
    sigma = torch.zeros(len(depth), device=place)
    rgb, tau = torch.zeros(len(depth), 3, device=place), torch.zeros(rays, device=place)
    step = LAYER if place.type == "cpu" else GPU_LAYER
    for nearest in range(0, int(depth.max()) + 1 if len(depth) else 0, step):
        layer = (depth >= nearest) & (depth < nearest + step)
        layer &= (torch.exp(-tau) > early_stop)[points.ray]
        wanted = torch.nonzero(layer)[:, 0]
        for rows in wanted.split(_chunk(place)):
            sigma[rows], rgb[rows] = _evaluate(model, person, points, rows)
        tau.index_add_(0, points.ray[wanted], (sigma * points.delta)[wanted])
    colour, alpha = composite(points.ray, points.delta, sigma, rgb, rays=rays)
    shape = (camera.height, camera.width)
    return colour.reshape(*shape, 3).cpu().numpy(), alpha.reshape(shape).cpu().numpy()


def _chunk(place: torch.device) -> int:
    return CHUNK if place.type == "cpu" else GPU_CHUNK


def _evaluate(
    model: HumanNerf, person: PersonFeatures, points: PointSet, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """sigma [n], rgb [n,3] of some samples."""
    sigma, rgb = model.field(
        points.x_can[rows],
        points.d_can[rows],
        points.uv[rows],
        points.vertex_id[rows],
        person.planes[0],
        person.image,
        person.vertex[0],
    )
    return sigma, rgb


def _rank(ray: torch.Tensor, *, rays: int) -> torch.Tensor:
    """How many samples of its ray lie before each sample; ray [N] ascending."""
    count = torch.bincount(ray, minlength=rays)
    first = torch.cumsum(count, 0) - count
    return torch.arange(len(ray), device=ray.device) - first[ray]
