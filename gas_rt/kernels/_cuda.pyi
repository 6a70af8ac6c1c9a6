"""The compiled CUDA kernels. Arrays are addresses of GPU memory, 0 for none."""

class Camera:
    def __init__(
        self,
        intrinsics: list[float],
        rotation: list[float],
        translation: list[float],
        width: int,
        height: int,
    ) -> None: ...

class Field:
    def __init__(
        self,
        scales: list[float],
        resolutions: list[int],
        sizes: list[int],
        features: int,
        table: int,
        half: bool,
        nets: int,
        lo: list[float],
        inverse_extent: list[float],
        density_scale: float,
    ) -> None: ...

def device_count() -> int: ...
def current_device() -> int: ...
def device_of(pointer: int) -> int: ...
def wait_for(producer: int, stream: int) -> None: ...
def packed_net_size(n_encoded: int) -> int: ...
def shape(
    rest: int,
    shapedirs: int,
    betas: int,
    n_vertices: int,
    n_shapes: int,
    poses: int,
    out: int,
    stream: int,
) -> None: ...
def regress_joints(
    regressor: int,
    vertices: int,
    n_joints: int,
    n_vertices: int,
    poses: int,
    out: int,
    stream: int,
) -> None: ...
def joint_transforms(
    rotations: int,
    joints: int,
    parents: int,
    translation: int,
    n_joints: int,
    poses: int,
    transforms: int,
    posed_joints: int,
    stream: int,
) -> None: ...
def pose_offsets(
    rotations: int,
    posedirs: int,
    n_joints: int,
    n_vertices: int,
    poses: int,
    features: int,
    out: int,
    stream: int,
) -> None: ...
def skin(
    vertices: int,
    offsets: int,
    transforms: int,
    bone_ids: int,
    bone_weights: int,
    n_vertices: int,
    n_joints: int,
    poses: int,
    out: int,
    stream: int,
) -> None: ...
def inverse_maps(
    target: int,
    target_offsets: int,
    canonical: int,
    canonical_offsets: int,
    bone_ids: int,
    bone_weights: int,
    n_vertices: int,
    n_joints: int,
    poses: int,
    out: int,
    stream: int,
) -> None: ...
def vertex_normals(
    vertices: int,
    faces: int,
    corner_start: int,
    corners: int,
    n_vertices: int,
    n_faces: int,
    poses: int,
    out: int,
    stream: int,
) -> None: ...
def build_shell(
    vertices: int,
    maps: int,
    n_vertices: int,
    radius_m: float,
    header: int,
    block: int,
    leaf_start: int,
    lanes: int,
    n_blocks: int,
    n_numbered: int,
    n_groups: int,
    stream: int,
) -> None: ...
def chain_shells(shell: int, beyond: int, ids: int, stream: int) -> None: ...
def query_shell(
    shell: int,
    points: int,
    directions: int,
    n: int,
    vertex_id: int,
    canonical: int,
    canonical_directions: int,
    stream: int,
) -> None: ...
def rasterize(
    camera: Camera,
    vertices: int,
    faces: int,
    normals: int,
    n_vertices: int,
    n_faces: int,
    seen: int,
    keys: int,
    face_id: int,
    barycentric: int,
    depth: int,
    mask: int,
    picture: int,
    stream: int,
) -> None: ...
def field_forward(
    field: Field, points: int, directions: int, n: int, sigma: int, rgb: int, stream: int
) -> None: ...
def march(
    shell: int,
    field: Field,
    camera: Camera,
    occupancy: int,
    resolution: int,
    samples: int,
    early_stop: float,
    rgb: int,
    alpha: int,
    stream: int,
) -> None: ...
