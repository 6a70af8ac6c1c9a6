#include "arrays.h"
#include "bindings.h"
#include "gas_rt/geometry_table.h"

namespace gas_rt {
namespace {

using Points = F32In<-1, 3>;
using PointsOut = F32Out<-1, 3>;
// Of every pose of a batch
using BatchIn = F32In<-1, -1, 3>;
using BatchOut = F32Out<-1, -1, 3>;
using Faces = I32In<-1, 3>;
using FaceIds = I32In<-1, -1>;
using Barycentric = F32In<-1, -1, 3>;
using Release = nb::gil_scoped_release;

const GeometryTable& table() { return GAS_RT_SELECT(geometry_table); }

CameraView make_camera(F32In<3, 3> intrinsics, F32In<3, 3> rotation, F32In<3> translation,
                       int32_t width, int32_t height) {
  require(width > 0 && height > 0, "Camera: empty picture");
  CameraView camera{};
  const float* k = intrinsics.data();
  camera.fx = k[0], camera.fy = k[4], camera.cx = k[2], camera.cy = k[5];
  for (int i = 0; i < 9; ++i) camera.rotation[i] = rotation.data()[i];
  for (int i = 0; i < 3; ++i) camera.translation[i] = translation.data()[i];
  camera.width = width, camera.height = height;
  return camera;
}

void rodrigues(Points rotvec, F32Out<-1, 3, 3> out) {
  require(rows(out) == rows(rotvec), "rodrigues: lengths differ");
  Release release;
  table().rodrigues(rotvec.data(), rows(rotvec), out.data());
}

void joint_transforms(BatchIn rotations, Points joints, I32In<-1> parents, F32Out<-1, -1, 3, 4> out,
                      BatchOut posed) {
  const int64_t poses = rows(rotations), n = columns(rotations);
  require(rows(out) == poses && rows(posed) == poses && rows(joints) == n && rows(parents) == n &&
              columns(out) == n && columns(posed) == n,
          "joint_transforms: lengths differ");
  for (int64_t j = 0; j < n; ++j) {
    require(parents.data()[j] < j, "joint_transforms: a parent follows its child");
  }
  Release release;
  for (int64_t pose = 0; pose < poses; ++pose) {
    table().joint_transforms(rotations.data() + 3 * n * pose, joints.data(), parents.data(), n,
                             out.data() + 12 * n * pose, posed.data() + 3 * n * pose);
  }
}

void pose_offsets(BatchIn rotations, F32In<-1, 3, -1> posedirs, int threads, BatchOut out) {
  const int64_t poses = rows(rotations), joints = columns(rotations);
  require(joints >= 1 && static_cast<int64_t>(posedirs.shape(2)) == 9 * (joints - 1) &&
              rows(out) == poses && columns(out) == rows(posedirs),
          "pose_offsets: shapes differ");
  Release release;
  table().pose_offsets(rotations.data(), poses, joints, posedirs.data(), rows(posedirs), threads,
                       out.data());
}

void shape_offsets(F32In<-1> betas, F32In<-1, 3, -1> shapedirs, PointsOut out) {
  require(static_cast<int64_t>(shapedirs.shape(2)) == rows(betas) && rows(out) == rows(shapedirs),
          "shape_offsets: shapes differ");
  Release release;
  table().shape_offsets(betas.data(), rows(betas), shapedirs.data(), rows(shapedirs), out.data());
}

void skin(BatchIn vertices, F32In<-1, -1, 3, 4> transforms, I32In<-1, 4> ids, F32In<-1, 4> weights,
          int threads, BatchOut out) {
  const int64_t poses = rows(vertices), n = columns(vertices), bones = columns(transforms);
  require(rows(transforms) == poses && rows(out) == poses && columns(out) == n && rows(ids) == n &&
              rows(weights) == n,
          "skin: lengths differ");
  Release release;
  require_indices(ids.data(), 4 * n, bones, "skin: bone id out of range");
  for (int64_t pose = 0; pose < poses; ++pose) {
    table().skin(vertices.data() + 3 * n * pose, n, transforms.data() + 12 * bones * pose,
                 ids.data(), weights.data(), threads, out.data() + 3 * n * pose);
  }
}

void inverse_maps(F32In<-1, 3, 4> target, Points offsets_target, F32In<-1, 3, 4> canonical,
                  Points offsets_canonical, I32In<-1, 4> ids, F32In<-1, 4> weights, int threads,
                  F32Out<-1, 3, 4> out) {
  const int64_t n = rows(ids);
  require(rows(target) == rows(canonical) && rows(offsets_target) == n &&
              rows(offsets_canonical) == n && rows(weights) == n && rows(out) == n,
          "inverse_maps: lengths differ");
  Release release;
  require_indices(ids.data(), 4 * n, rows(target), "inverse_maps: bone id out of range");
  table().inverse_maps(target.data(), offsets_target.data(), canonical.data(),
                       offsets_canonical.data(), ids.data(), weights.data(), n, threads,
                       out.data());
}

void vertex_normals(BatchIn vertices, Faces faces, int threads, BatchOut out) {
  const int64_t poses = rows(vertices), n = columns(vertices);
  require(rows(out) == poses && columns(out) == n, "vertex_normals: lengths differ");
  Release release;
  require_indices(faces.data(), 3 * rows(faces), n, "vertex_normals: face index out of range");
  for (int64_t pose = 0; pose < poses; ++pose) {
    table().vertex_normals(vertices.data() + 3 * n * pose, n, faces.data(), rows(faces), threads,
                           out.data() + 3 * n * pose);
  }
}

void rasterize(const CameraView& camera, Points vertices, Faces faces, int threads,
               I32Out<-1, -1> face_id, F32Out<-1, -1, 3> barycentric, F32Out<-1, -1> depth) {
  const size_t h = camera.height, w = camera.width;
  require(face_id.shape(0) == h && face_id.shape(1) == w && barycentric.shape(0) == h &&
              barycentric.shape(1) == w && depth.shape(0) == h && depth.shape(1) == w,
          "rasterize: picture sizes differ");
  Release release;
  require_indices(faces.data(), 3 * rows(faces), rows(vertices),
                  "rasterize: face index out of range");
  table().rasterize(camera, vertices.data(), rows(vertices), faces.data(), rows(faces), threads,
                    face_id.data(), barycentric.data(), depth.data());
}

// The checks that every pass over a raster shares; returns its number of pixels.
template <typename Out>
int64_t check_raster(const FaceIds& face_id, const Barycentric& barycentric, const Faces& faces,
                     int64_t n_attributes, const Out& out) {
  const size_t h = face_id.shape(0), w = face_id.shape(1);
  require(barycentric.shape(0) == h && barycentric.shape(1) == w && out.shape(0) == h &&
              out.shape(1) == w,
          "raster: picture sizes differ");
  const int64_t pixels = static_cast<int64_t>(h * w);
  int32_t high = -1;
  for (int64_t i = 0; i < pixels; ++i) {
    high = face_id.data()[i] > high ? face_id.data()[i] : high;
  }
  require(high < rows(faces), "raster: face id out of range");
  require_indices(faces.data(), 3 * rows(faces), n_attributes, "raster: face index out of range");
  return pixels;
}

void interpolate(FaceIds face_id, Barycentric barycentric, Faces faces, F32In<-1, -1> attributes,
                 int threads, F32Out<-1, -1, -1> out) {
  require(out.shape(2) == attributes.shape(1), "interpolate: channels differ");
  Release release;
  const int64_t pixels = check_raster(face_id, barycentric, faces, rows(attributes), out);
  table().interpolate(face_id.data(), barycentric.data(), pixels, faces.data(), attributes.data(),
                      static_cast<int64_t>(attributes.shape(1)), threads, out.data());
}

template <typename Texel>
void sample_texture(FaceIds face_id, Barycentric barycentric, F32In<-1, 2> uv, Faces uv_faces,
                    Array<const Texel, nb::shape<-1, -1, -1>> texture, int threads,
                    F32Out<-1, -1, -1> out) {
  require(texture.shape(0) > 0 && texture.shape(1) > 0, "sample_texture: empty texture");
  require(out.shape(2) == texture.shape(2), "sample_texture: channels differ");
  Release release;
  const int64_t pixels = check_raster(face_id, barycentric, uv_faces, rows(uv), out);
  const auto run = [&](auto sample) {
    sample(face_id.data(), barycentric.data(), pixels, uv.data(), uv_faces.data(), texture.data(),
           rows(texture), static_cast<int64_t>(texture.shape(1)),
           static_cast<int64_t>(texture.shape(2)), threads, out.data());
  };
  if constexpr (std::is_same_v<Texel, float>) {
    run(table().sample_texture_f32);
  } else {
    run(table().sample_texture_u8);
  }
}

void render_normals(const CameraView& camera, Points vertices, Faces faces, int threads,
                    F32Out<-1, -1, 3> out, Array<bool, nb::shape<-1, -1>> mask) {
  const size_t h = camera.height, w = camera.width;
  require(out.shape(0) == h && out.shape(1) == w && mask.shape(0) == h && mask.shape(1) == w,
          "render_normals: picture sizes differ");
  Release release;
  require_indices(faces.data(), 3 * rows(faces), rows(vertices),
                  "render_normals: face index out of range");
  table().render_normals(camera, vertices.data(), rows(vertices), faces.data(), rows(faces),
                         threads, out.data(), mask.data());
}

}  // namespace

void bind_geometry(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<CameraView>(m, "Camera")
      .def(nb::new_(&make_camera), "intrinsics"_a.noconvert(), "rotation"_a.noconvert(),
           "translation"_a.noconvert(), "width"_a, "height"_a);
  m.def("rodrigues", &rodrigues, "rotvec"_a.noconvert(), "out"_a.noconvert());
  m.def("joint_transforms", &joint_transforms, "rotations"_a.noconvert(), "joints"_a.noconvert(),
        "parents"_a.noconvert(), "transforms"_a.noconvert(), "posed_joints"_a.noconvert());
  m.def("pose_offsets", &pose_offsets, "rotations"_a.noconvert(), "posedirs"_a.noconvert(),
        "threads"_a, "out"_a.noconvert());
  m.def("shape_offsets", &shape_offsets, "betas"_a.noconvert(), "shapedirs"_a.noconvert(),
        "out"_a.noconvert());
  m.def("skin", &skin, "vertices"_a.noconvert(), "transforms"_a.noconvert(),
        "bone_ids"_a.noconvert(), "bone_weights"_a.noconvert(), "threads"_a, "out"_a.noconvert());
  m.def("inverse_maps", &inverse_maps, "target"_a.noconvert(), "offsets_target"_a.noconvert(),
        "canonical"_a.noconvert(), "offsets_canonical"_a.noconvert(), "bone_ids"_a.noconvert(),
        "bone_weights"_a.noconvert(), "threads"_a, "out"_a.noconvert());
  m.def("vertex_normals", &vertex_normals, "vertices"_a.noconvert(), "faces"_a.noconvert(),
        "threads"_a, "out"_a.noconvert());
  m.def("rasterize", &rasterize, "camera"_a, "vertices"_a.noconvert(), "faces"_a.noconvert(),
        "threads"_a, "face_id"_a.noconvert(), "barycentric"_a.noconvert(), "depth"_a.noconvert());
  m.def("interpolate", &interpolate, "face_id"_a.noconvert(), "barycentric"_a.noconvert(),
        "faces"_a.noconvert(), "attributes"_a.noconvert(), "threads"_a, "out"_a.noconvert());
  m.def("sample_texture_f32", &sample_texture<float>, "face_id"_a.noconvert(),
        "barycentric"_a.noconvert(), "uv"_a.noconvert(), "uv_faces"_a.noconvert(),
        "texture"_a.noconvert(), "threads"_a, "out"_a.noconvert());
  m.def("sample_texture_u8", &sample_texture<uint8_t>, "face_id"_a.noconvert(),
        "barycentric"_a.noconvert(), "uv"_a.noconvert(), "uv_faces"_a.noconvert(),
        "texture"_a.noconvert(), "threads"_a, "out"_a.noconvert());
  m.def("render_normals", &render_normals, "camera"_a, "vertices"_a.noconvert(),
        "faces"_a.noconvert(), "threads"_a, "out"_a.noconvert(), "mask"_a.noconvert());
}

}  // namespace gas_rt
