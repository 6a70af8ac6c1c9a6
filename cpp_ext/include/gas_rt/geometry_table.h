// The CPU drivers of the geometry kernels. Arrays are C-contiguous; callers have checked shapes and
// that every index is in range.
#pragma once

#include <cstdint>

#include "gas_rt/camera.h"
#include "gas_rt/dispatch.h"

namespace gas_rt {

struct GeometryTable {
  // rotvec [n, 3] -> out [n, 3, 3]
  void (*rodrigues)(const float* rotvec, int64_t n, float* out);
  // rotations, joints [J, 3], parents [J] (-1 = root, else before its child) ->
  // transforms [J, 3, 4], posed_joints [J, 3]
  void (*joint_transforms)(const float* rotations, const float* joints, const int32_t* parents,
                           int64_t n_joints, float* transforms, float* posed_joints);
  // rotations [B, J, 3], posedirs [V, 3, 9 (J - 1)] -> out [B, V, 3]; posedirs is read once
  void (*pose_offsets)(const float* rotations, int64_t n_poses, int64_t n_joints,
                       const float* posedirs, int64_t n_vertices, int threads, float* out);
  // betas [K], shapedirs [V, 3, K] -> out [V, 3]
  void (*shape_offsets)(const float* betas, int64_t n_betas, const float* shapedirs,
                        int64_t n_vertices, float* out);
  // vertices [V, 3], transforms [J, 3, 4], bone_ids, bone_weights [V, 4] -> out [V, 3]
  void (*skin)(const float* vertices, int64_t n_vertices, const float* transforms,
               const int32_t* bone_ids, const float* bone_weights, int threads, float* out);
  // see inverse_map in skinning.h; out [V, 3, 4]
  void (*inverse_maps)(const float* target, const float* offsets_target, const float* canonical,
                       const float* offsets_canonical, const int32_t* bone_ids,
                       const float* bone_weights, int64_t n_vertices, int threads, float* out);
  // vertices [V, 3], faces [F, 3] -> out [V, 3], angle-weighted, unit or zero
  void (*vertex_normals)(const float* vertices, int64_t n_vertices, const int32_t* faces,
                         int64_t n_faces, int threads, float* out);
  // -> face_id [H, W] (-1 = none), barycentric [H, W, 3], depth [H, W] (infinity = none)
  void (*rasterize)(const CameraView& camera, const float* vertices, int64_t n_vertices,
                    const int32_t* faces, int64_t n_faces, int threads, int32_t* face_id,
                    float* barycentric, float* depth);
  // attributes [V, C] -> out [pixels, C], zero where nothing was hit
  void (*interpolate)(const int32_t* face_id, const float* barycentric, int64_t pixels,
                      const int32_t* faces, const float* attributes, int64_t channels, int threads,
                      float* out);
  // uv [Vt, 2], texture [h, w, C] -> out [pixels, C]; a byte b reads as b / 255
  void (*sample_texture_f32)(const int32_t* face_id, const float* barycentric, int64_t pixels,
                             const float* uv, const int32_t* uv_faces, const float* texture,
                             int64_t texture_height, int64_t texture_width, int64_t channels,
                             int threads, float* out);
  void (*sample_texture_u8)(const int32_t* face_id, const float* barycentric, int64_t pixels,
                            const float* uv, const int32_t* uv_faces, const uint8_t* texture,
                            int64_t texture_height, int64_t texture_width, int64_t channels,
                            int threads, float* out);
  // -> out [H, W, 3], the release's colours of the camera's normals, and mask [H, W]
  void (*render_normals)(const CameraView& camera, const float* vertices, int64_t n_vertices,
                         const int32_t* faces, int64_t n_faces, int threads, float* out,
                         bool* mask);
};

GAS_RT_DECLARE_TABLE(GeometryTable, geometry_table)

}  // namespace gas_rt
