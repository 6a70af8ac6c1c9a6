// The CUDA drivers. Pointers are to device memory unless said otherwise, arrays are C-contiguous,
// and callers have checked shapes. Every driver queues its kernels on `stream` and returns at once
// with a CUDA error code, 0 if all went well; none allocates, none waits.
//
// Indices in device memory cannot be checked without waiting. Kernels do not follow one that is
// out of range: a vertex with such a bone becomes NaN, such a face is not there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gas_rt/camera.h"
#include "gas_rt/field_sample.h"
#include "gas_rt/occupancy.h"
#include "gas_rt/shell.h"

namespace gas_rt::cuda {

using Stream = void*;

constexpr int kMaxJoints = 256;

// What the runtime says: devices it can use, names and texts of its errors.
int device_count(int* count);
int device_of(const void* pointer, int* device);  // -1 for memory that is not a device's
int current_device(int* device);
const char* error_text(int error);
// Makes later work on `stream` wait for what has been queued on `producer` so far.
int wait_for(Stream producer, Stream stream);

// template [V, 3], shapedirs [V, 3, K], betas [B, K] -> out [B, V, 3]
int shape(const float* rest, const float* shapedirs, const float* betas, int64_t n_vertices,
          int n_shapes, int poses, float* out, Stream stream);
// regressor [J, V], vertices [B, V, 3] -> out [B, J, 3]
int regress_joints(const float* regressor, const float* vertices, int n_joints, int64_t n_vertices,
                   int poses, float* out, Stream stream);
// rotations, joints [B, J, 3], parents [J], translation [B, 3] or null ->
// transforms [B, J, 3, 4], posed_joints [B, J, 3]
int joint_transforms(const float* rotations, const float* joints, const int32_t* parents,
                     const float* translation, int n_joints, int poses, float* transforms,
                     float* posed_joints, Stream stream);
// rotations [B, J, 3], posedirs [V, 3, 9 (J - 1)] -> features [B, 9 (J - 1)], out [B, V, 3]
int pose_offsets(const float* rotations, const float* posedirs, int n_joints, int64_t n_vertices,
                 int poses, float* features, float* out, Stream stream);
// vertices, offsets (or null) [B, V, 3], transforms [B, J, 3, 4], bone_ids, bone_weights [V, 4] ->
// out [B, V, 3]
int skin(const float* vertices, const float* offsets, const float* transforms,
         const int32_t* bone_ids, const float* bone_weights, int64_t n_vertices, int n_joints,
         int poses, float* out, Stream stream);
// target [B, J, 3, 4], target_offsets [B, V, 3], canonical [J, 3, 4], canonical_offsets [V, 3] ->
// out [B, V, 3, 4]
int inverse_maps(const float* target, const float* target_offsets, const float* canonical,
                 const float* canonical_offsets, const int32_t* bone_ids, const float* bone_weights,
                 int64_t n_vertices, int n_joints, int poses, float* out, Stream stream);
// vertices [B, V, 3], faces [F, 3]; corner_start [V + 1] into corners [3 F], which hold
// 3 * face + corner, vertex after vertex, ascending -> out [B, V, 3]
int vertex_normals(const float* vertices, const int32_t* faces, const int32_t* corner_start,
                   const int32_t* corners, int64_t n_vertices, int64_t n_faces, int poses,
                   float* out, Stream stream);

// What the raster writes per pixel; any may be null.
struct RasterOutputs {
  int32_t* face_id;    // [H, W]
  float* barycentric;  // [H, W, 3]
  float* depth;        // [H, W]
  uint8_t* mask;       // [H, W]
  float* picture;      // [H, W, 3] the normals' colours; needs `normals`
};

// vertices [V, 3], faces [F, 3], normals [V, 3] or null; workspace: seen [V, 3], keys [H, W]
int rasterize(const CameraView& camera, const float* vertices, const int32_t* faces,
              const float* normals, int64_t n_vertices, int64_t n_faces, float* seen,
              uint64_t* keys, const RasterOutputs& out, Stream stream);

// Why a built shell is not to be used; bits of ShellHeader.status.
enum ShellStatus : int32_t {
  kShellTooWide = 1,   // the vertices need more than the given blocks
  kShellTooDense = 2,  // more vertices are near one block than kMaxBlockCandidates
  kShellFull = 4,      // the given numbered blocks or groups are used up
};

// A shell as the kernels read it, in device memory. The face reads the first two on the host.
struct ShellHeader {
  uint64_t used;  // numbered blocks in the upper half, groups of lanes in the lower
  int32_t status;
  float radius_m, rounding_m;
  ShellView view;
};

constexpr int kShellHeaderBytes = 256;  // the face's HEADER_BYTES
static_assert(sizeof(ShellHeader) <= kShellHeaderBytes, "the caller's buffer holds a header");
static_assert(offsetof(ShellHeader, used) == 0 && offsetof(ShellHeader, status) == 8,
              "the face's check_shell() reads them there");

// The vertices that one block of leaves can see, at most: what fits the shared memory of every GPU.
constexpr int kMaxBlockCandidates = 10752;

struct ShellStorage {
  ShellHeader* header;
  int32_t* block;       // [n_blocks]
  int32_t* leaf_start;  // [n_numbered * kLeavesInBlock + 1]
  ShellLanes* lanes;    // [n_groups]
  int32_t n_blocks, n_numbered, n_groups;
};

// vertices [V, 3], maps [V, 3, 4], which must live as long as the shell.
int build_shell(const float* vertices, const float* maps, int64_t n_vertices, float radius_m,
                const ShellStorage& out, Stream stream);
// Lets vertices ids [W] of a shell, of which `beyond` was built, reach as far as that one's. Both
// must have been queued before; beyond and ids must live as long as the shell.
int chain_shells(ShellHeader* shell, const ShellHeader* beyond, const int32_t* ids, Stream stream);
// points, directions (or null) [N, 3] -> vertex_id [N], canonical [N, 3], and for directions
// canonical_directions [N, 3], unit; -1 and zeros outside the shell
int query_shell(const ShellHeader* shell, const float* points, const float* directions, int64_t n,
                int32_t* vertex_id, float* canonical, float* canonical_directions, Stream stream);

// points, directions [N, 3] -> sigma [N], rgb [N, 3]
int field_forward(const PackedField& field, const float* points, const float* directions, int64_t n,
                  float* sigma, float* rgb, Stream stream);

struct MarchJob {
  CameraView camera;
  OccupancyView occupancy;
  int samples;
  float early_stop;
  float* rgb;    // [H, W, 3]
  float* alpha;  // [H, W]
};

int march(const ShellHeader* shell, const PackedField& field, const MarchJob& job, Stream stream);

}  // namespace gas_rt::cuda
