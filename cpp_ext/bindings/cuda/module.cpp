// The CUDA drivers as a module of their own, which gas_rt.kernels.cuda loads when it is first used.
// Arrays come as addresses: that face has checked their type, shape, layout and device.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "drivers.h"

namespace nb = nanobind;

namespace gas_rt::cuda {
namespace {

using Address = uintptr_t;
using Release = nb::call_guard<nb::gil_scoped_release>;

// A type of its own: the module of the CPU kernels has a Camera too.
struct Camera {
  CameraView view;
};
struct Field {
  PackedField view;
};

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Stream stream_at(Address address) { return reinterpret_cast<Stream>(address); }

void check(int error, const char* what) {
  if (error != 0) throw std::runtime_error(std::string(what) + ": " + error_text(error));
}

Camera make_camera(std::array<float, 4> intrinsics, std::array<float, 9> rotation,
                   std::array<float, 3> translation, int32_t width, int32_t height) {
  Camera camera{};
  CameraView& view = camera.view;
  view.fx = intrinsics[0], view.fy = intrinsics[1];
  view.cx = intrinsics[2], view.cy = intrinsics[3];
  for (int i = 0; i < 9; ++i) view.rotation[i] = rotation[i];
  for (int i = 0; i < 3; ++i) view.translation[i] = translation[i];
  view.width = width, view.height = height;
  return camera;
}

Field make_field(const std::vector<float>& scales, const std::vector<uint32_t>& resolutions,
                 const std::vector<uint32_t>& sizes, int features, Address table, bool half,
                 Address nets, std::array<float, 3> lo, std::array<float, 3> inverse_extent,
                 float density_scale) {
  const size_t n = scales.size();
  if (n < 1 || n > kMaxLevels || resolutions.size() != n || sizes.size() != n ||
      (features != 1 && features != 2 && features != 4 && features != 8)) {
    throw std::invalid_argument("Field: wrong number of levels or features");
  }
  Field field{};
  PackedField& view = field.view;
  view.n_levels = static_cast<int>(n), view.n_features = features;
  uint64_t offset = 0;
  for (size_t l = 0; l < n; ++l) {
    const uint64_t r = resolutions[l];
    view.levels[l] = {scales[l], resolutions[l], sizes[l], r * r * r > sizes[l], offset};
    offset += sizes[l];
  }
  view.table = at<void>(table), view.half = half, view.nets = at<float>(nets);
  for (int d = 0; d < 3; ++d) view.lo[d] = lo[d], view.inverse_extent[d] = inverse_extent[d];
  view.density_scale = density_scale;
  return field;
}

void bind_runtime(nb::module_& m) {
  m.def("device_count", [] {
    int count;
    check(device_count(&count), "cudaGetDeviceCount");
    return count;
  });
  m.def("current_device", [] {
    int device;
    check(current_device(&device), "cudaGetDevice");
    return device;
  });
  m.def("device_of", [](Address pointer) {
    int device;
    check(device_of(at<void>(pointer), &device), "cudaPointerGetAttributes");
    return device;
  });
  m.def(
      "wait_for",
      [](Address producer, Address stream) {
        check(wait_for(stream_at(producer), stream_at(stream)), "cudaStreamWaitEvent");
      },
      Release());
}

void bind_body(nb::module_& m) {
  m.def(
      "shape",
      [](Address rest, Address shapedirs, Address betas, int64_t n_vertices, int n_shapes,
         int poses, Address out, Address stream) {
        check(shape(at<float>(rest), at<float>(shapedirs), at<float>(betas), n_vertices, n_shapes,
                    poses, at<float>(out), stream_at(stream)),
              "shape");
      },
      Release());
  m.def(
      "regress_joints",
      [](Address regressor, Address vertices, int n_joints, int64_t n_vertices, int poses,
         Address out, Address stream) {
        check(regress_joints(at<float>(regressor), at<float>(vertices), n_joints, n_vertices, poses,
                             at<float>(out), stream_at(stream)),
              "regress_joints");
      },
      Release());
  m.def(
      "joint_transforms",
      [](Address rotations, Address joints, Address parents, Address translation, int n_joints,
         int poses, Address transforms, Address posed_joints, Address stream) {
        check(joint_transforms(at<float>(rotations), at<float>(joints), at<int32_t>(parents),
                               at<float>(translation), n_joints, poses, at<float>(transforms),
                               at<float>(posed_joints), stream_at(stream)),
              "joint_transforms");
      },
      Release());
  m.def(
      "pose_offsets",
      [](Address rotations, Address posedirs, int n_joints, int64_t n_vertices, int poses,
         Address features, Address out, Address stream) {
        check(pose_offsets(at<float>(rotations), at<float>(posedirs), n_joints, n_vertices, poses,
                           at<float>(features), at<float>(out), stream_at(stream)),
              "pose_offsets");
      },
      Release());
  m.def(
      "skin",
      [](Address vertices, Address offsets, Address transforms, Address bone_ids,
         Address bone_weights, int64_t n_vertices, int n_joints, int poses, Address out,
         Address stream) {
        check(skin(at<float>(vertices), at<float>(offsets), at<float>(transforms),
                   at<int32_t>(bone_ids), at<float>(bone_weights), n_vertices, n_joints, poses,
                   at<float>(out), stream_at(stream)),
              "skin");
      },
      Release());
  m.def(
      "inverse_maps",
      [](Address target, Address target_offsets, Address canonical, Address canonical_offsets,
         Address bone_ids, Address bone_weights, int64_t n_vertices, int n_joints, int poses,
         Address out, Address stream) {
        check(inverse_maps(at<float>(target), at<float>(target_offsets), at<float>(canonical),
                           at<float>(canonical_offsets), at<int32_t>(bone_ids),
                           at<float>(bone_weights), n_vertices, n_joints, poses, at<float>(out),
                           stream_at(stream)),
              "inverse_maps");
      },
      Release());
  m.def(
      "vertex_normals",
      [](Address vertices, Address faces, Address corner_start, Address corners, int64_t n_vertices,
         int64_t n_faces, int poses, Address out, Address stream) {
        check(vertex_normals(at<float>(vertices), at<int32_t>(faces), at<int32_t>(corner_start),
                             at<int32_t>(corners), n_vertices, n_faces, poses, at<float>(out),
                             stream_at(stream)),
              "vertex_normals");
      },
      Release());
}

void bind_shell(nb::module_& m) {
  m.def(
      "build_shell",
      [](Address vertices, Address maps, int64_t n_vertices, float radius_m, Address header,
         Address block, Address leaf_start, Address lanes, int32_t n_blocks, int32_t n_numbered,
         int32_t n_groups, Address stream) {
        const ShellStorage storage = {at<ShellHeader>(header),
                                      at<int32_t>(block),
                                      at<int32_t>(leaf_start),
                                      at<ShellLanes>(lanes),
                                      n_blocks,
                                      n_numbered,
                                      n_groups};
        check(build_shell(at<float>(vertices), at<float>(maps), n_vertices, radius_m, storage,
                          stream_at(stream)),
              "build_shell");
      },
      Release());
  m.def(
      "chain_shells",
      [](Address shell, Address beyond, Address ids, Address stream) {
        check(chain_shells(at<ShellHeader>(shell), at<ShellHeader>(beyond), at<int32_t>(ids),
                           stream_at(stream)),
              "chain_shells");
      },
      Release());
  m.def(
      "query_shell",
      [](Address shell, Address points, Address directions, int64_t n, Address vertex_id,
         Address canonical, Address canonical_directions, Address stream) {
        check(query_shell(at<ShellHeader>(shell), at<float>(points), at<float>(directions), n,
                          at<int32_t>(vertex_id), at<float>(canonical),
                          at<float>(canonical_directions), stream_at(stream)),
              "query_shell");
      },
      Release());
}

void bind_pictures(nb::module_& m) {
  nb::class_<Camera>(m, "Camera").def(nb::new_(&make_camera));
  nb::class_<Field>(m, "Field").def(nb::new_(&make_field));
  m.def("packed_net_size", &packed_net_size);
  m.def(
      "rasterize",
      [](const Camera& camera, Address vertices, Address faces, Address normals, int64_t n_vertices,
         int64_t n_faces, Address seen, Address keys, Address face_id, Address barycentric,
         Address depth, Address mask, Address picture, Address stream) {
        const RasterOutputs out = {at<int32_t>(face_id), at<float>(barycentric), at<float>(depth),
                                   at<uint8_t>(mask), at<float>(picture)};
        check(rasterize(camera.view, at<float>(vertices), at<int32_t>(faces), at<float>(normals),
                        n_vertices, n_faces, at<float>(seen), at<uint64_t>(keys), out,
                        stream_at(stream)),
              "rasterize");
      },
      Release());
  m.def(
      "field_forward",
      [](const Field& field, Address points, Address directions, int64_t n, Address sigma,
         Address rgb, Address stream) {
        check(field_forward(field.view, at<float>(points), at<float>(directions), n,
                            at<float>(sigma), at<float>(rgb), stream_at(stream)),
              "field_forward");
      },
      Release());
  m.def(
      "march",
      [](Address shell, const Field& field, const Camera& camera, Address occupancy,
         int32_t resolution, int samples, float early_stop, Address rgb, Address alpha,
         Address stream) {
        const MarchJob job = {camera.view,    {at<uint8_t>(occupancy), resolution},
                              samples,        early_stop,
                              at<float>(rgb), at<float>(alpha)};
        check(march(at<ShellHeader>(shell), field.view, job, stream_at(stream)), "march");
      },
      Release());
}

}  // namespace
}  // namespace gas_rt::cuda

NB_MODULE(_cuda, m) {
  gas_rt::cuda::bind_runtime(m);
  gas_rt::cuda::bind_body(m);
  gas_rt::cuda::bind_shell(m);
  gas_rt::cuda::bind_pictures(m);
}
