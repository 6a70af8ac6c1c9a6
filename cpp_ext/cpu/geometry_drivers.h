// What geometry.cpp gathers into the table; each function is documented there.
#pragma once

#include <cstdint>

#include "gas_rt/camera.h"
#include "gas_rt/geometry_table.h"

namespace gas_rt::GAS_RT_ISA {

void rodrigues_all(const float* rotvec, int64_t n, float* out);
void joint_transforms(const float* rotations, const float* joints, const int32_t* parents,
                      int64_t n_joints, float* transforms, float* posed_joints);
void pose_offsets(const float* rotations, int64_t n_poses, int64_t n_joints, const float* posedirs,
                  int64_t n_vertices, int threads, float* out);
void shape_offsets(const float* betas, int64_t n_betas, const float* shapedirs, int64_t n_vertices,
                   float* out);
void skin(const float* vertices, int64_t n_vertices, const float* transforms,
          const int32_t* bone_ids, const float* bone_weights, int threads, float* out);
void inverse_maps(const float* target, const float* offsets_target, const float* canonical,
                  const float* offsets_canonical, const int32_t* bone_ids,
                  const float* bone_weights, int64_t n_vertices, int threads, float* out);
void vertex_normals(const float* vertices, int64_t n_vertices, const int32_t* faces,
                    int64_t n_faces, int threads, float* out);
void rasterize(const CameraView& camera, const float* vertices, int64_t n_vertices,
               const int32_t* faces, int64_t n_faces, int threads, int32_t* face_id,
               float* barycentric, float* depth);
void interpolate(const int32_t* face_id, const float* barycentric, int64_t pixels,
                 const int32_t* faces, const float* attributes, int64_t channels, int threads,
                 float* out);
template <typename Texel>
void sample_texture(const int32_t* face_id, const float* barycentric, int64_t pixels,
                    const float* uv, const int32_t* uv_faces, const Texel* texture,
                    int64_t texture_height, int64_t texture_width, int64_t channels, int threads,
                    float* out);
void render_normals(const CameraView& camera, const float* vertices, int64_t n_vertices,
                    const int32_t* faces, int64_t n_faces, int threads, float* out, bool* mask);

}  // namespace gas_rt::GAS_RT_ISA
