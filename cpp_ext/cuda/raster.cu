// The z-buffer: one 64-bit word per pixel, depth above face, so that the smallest word is the
// nearest face and of equal depths the lowest. Products and sums stay separate here as on the CPU
// (--fmad=false): both draw the same pixels.
#include "drivers.h"
#include "gas_rt/normals.h"
#include "gas_rt/raster.h"
#include "launch.h"

namespace gas_rt::cuda {
namespace {

constexpr uint64_t kNothing = ~uint64_t{0};
constexpr int kDrawThreads = 128;

__global__ void project_kernel(const __grid_constant__ CameraView camera, const float* vertices,
                               int64_t n_vertices, float* seen) {
  const int64_t v = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (v < n_vertices) store3(seen + 3 * v, world_to_camera(camera, load3(vertices + 3 * v)));
}

__global__ void clear_kernel(uint64_t* keys, int64_t pixels) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < pixels) keys[i] = kNothing;
}

__device__ bool load_corners(const float* seen, const int32_t* face, int64_t n_vertices,
                             Vec3f* corner) {
  for (int i = 0; i < 3; ++i) {
    if (face[i] < 0 || face[i] >= n_vertices) return false;
    corner[i] = load3(seen + 3 * static_cast<int64_t>(face[i]));
  }
  return true;
}

struct Hit {
  double b[3];  // barycentrics
  float z;      // metres; negative where the triangle does not cover the pixel
};

__device__ Hit hit_at(const TriangleEdges& edges, int32_t x, int32_t y) {
  const double px = x + 0.5, py = y + 0.5;
  double e[3];
  for (int i = 0; i < 3; ++i) {
    e[i] = edges.a[i] * px + (edges.b[i] * py + edges.c[i]);
    if (!inside_edge(e[i], edges.owns[i])) return {{}, -1.0f};
  }
  const double scale = 1.0 / (e[0] + e[1] + e[2]);
  Hit hit = {{e[0] * scale, e[1] * scale, e[2] * scale}, 0.0f};
  hit.z = static_cast<float>(hit.b[0] * edges.z[0] + hit.b[1] * edges.z[1] + hit.b[2] * edges.z[2]);
  return hit;
}

struct Prepared {
  TriangleEdges edges;
  PixelBounds bounds;
};

// A warp prepares 32 triangles, one per thread, then draws one after the other, a pixel per thread:
// a triangle that fills the picture takes as many threads as it can use.
__global__ void draw_kernel(const __grid_constant__ CameraView camera, const float* seen,
                            const int32_t* faces, int64_t n_vertices, int64_t n_faces,
                            uint64_t* keys) {
  __shared__ Prepared prepared[kDrawThreads];
  const int64_t own = static_cast<int64_t>(blockIdx.x) * kDrawThreads + threadIdx.x;
  Prepared* mine = prepared + threadIdx.x;
  mine->bounds = {0, 0, -1, -1};
  Vec3f corner[3];
  if (own < n_faces && load_corners(seen, faces + 3 * own, n_vertices, corner)) {
    const PixelBounds bounds = triangle_bounds(camera, corner);
    if (bounds.x1 >= bounds.x0 && bounds.y1 >= bounds.y0 &&
        setup_edges(camera, corner, &mine->edges)) {
      mine->bounds = bounds;
    }
  }
  __syncwarp();
  const int lane = threadIdx.x % kWarp, first = threadIdx.x - lane;
  for (int t = 0; t < kWarp; ++t) {
    const PixelBounds& box = prepared[first + t].bounds;
    const int32_t width = box.x1 - box.x0 + 1, area = width * (box.y1 - box.y0 + 1);
    for (int32_t i = lane; i < area; i += kWarp) {
      const int32_t x = box.x0 + i % width, y = box.y0 + i / width;
      const Hit hit = hit_at(prepared[first + t].edges, x, y);
      if (!(hit.z >= kNearPlaneM)) continue;
      uint32_t depth;
      memcpy(&depth, &hit.z, sizeof depth);  // floats above zero are ordered as their bits
      const int64_t face = own - lane + t;
      atomicMin(
          reinterpret_cast<unsigned long long*>(keys) + static_cast<int64_t>(y) * camera.width + x,
          static_cast<unsigned long long>(depth) << 32 | static_cast<unsigned long long>(face));
    }
  }
}

__device__ Vec3f normal_at(const float* normals, const int32_t* face, const float* w) {
  return load3(normals + 3 * static_cast<int64_t>(face[0])) * w[0] +
         load3(normals + 3 * static_cast<int64_t>(face[1])) * w[1] +
         load3(normals + 3 * static_cast<int64_t>(face[2])) * w[2];
}

// One thread per pixel.
__global__ void resolve_kernel(const __grid_constant__ CameraView camera, const float* seen,
                               const int32_t* faces, const float* normals, int64_t n_vertices,
                               const uint64_t* keys, const __grid_constant__ RasterOutputs out) {
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pixel >= static_cast<int64_t>(camera.width) * camera.height) return;
  const bool covered = keys[pixel] != kNothing;
  const int32_t face = covered ? static_cast<int32_t>(keys[pixel] & 0xffffffffu) : -1;
  float barycentric[3] = {}, depth = INFINITY;
  Vec3f colour{0.0f, 0.0f, 0.0f};
  if (covered) {
    const int32_t* corners = faces + 3 * static_cast<int64_t>(face);
    Vec3f corner[3];
    TriangleEdges edges;
    load_corners(seen, corners, n_vertices, corner);
    setup_edges(camera, corner, &edges);
    const Hit hit = hit_at(edges, static_cast<int32_t>(pixel % camera.width),
                           static_cast<int32_t>(pixel / camera.width));
    store3(barycentric, Vec3d{hit.b[0], hit.b[1], hit.b[2]});
    depth = hit.z;
    if (out.picture != nullptr) {
      const Vec3f n = normal_at(normals, corners, barycentric);
      colour = normal_colour(normalized_or_zero(rotate(camera.rotation, n)));
    }
  }
  if (out.face_id != nullptr) out.face_id[pixel] = face;
  if (out.barycentric != nullptr) store3(out.barycentric + 3 * pixel, load3(barycentric));
  if (out.depth != nullptr) out.depth[pixel] = depth;
  if (out.mask != nullptr) out.mask[pixel] = covered ? 1 : 0;
  if (out.picture != nullptr) store3(out.picture + 3 * pixel, colour);
}

// One thread per vertex; its corners are added in the order of the faces, as on the CPU.
__global__ void normals_kernel(const float* vertices, const int32_t* faces,
                               const int32_t* corner_start, const int32_t* corners,
                               int64_t n_vertices, int64_t n_faces, float* out) {
  const int64_t v = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (v >= n_vertices) return;
  const float* own = vertices + 3 * n_vertices * blockIdx.y;
  Vec3f sum{0.0f, 0.0f, 0.0f};
  for (int32_t i = corner_start[v]; i < corner_start[v + 1]; ++i) {
    const int64_t face = corners[i] / 3;
    Vec3f corner[3];
    if (face < 0 || face >= n_faces || !load_corners(own, faces + 3 * face, n_vertices, corner)) {
      continue;
    }
    sum = sum + weighted_normal(corner, corners[i] % 3);
  }
  store3(out + 3 * (n_vertices * blockIdx.y + v), normalized_or_zero(sum));
}

}  // namespace

int rasterize(const CameraView& camera, const float* vertices, const int32_t* faces,
              const float* normals, int64_t n_vertices, int64_t n_faces, float* seen,
              uint64_t* keys, const RasterOutputs& out, Stream stream) {
  const int64_t pixels = static_cast<int64_t>(camera.width) * camera.height;
  int error = launch(clear_kernel, grid_for(pixels, 1), kThreads, 0, stream, keys, pixels);
  if (error != 0) return error;
  if (n_vertices > 0 && n_faces > 0) {
    error = launch(project_kernel, grid_for(n_vertices, 1), kThreads, 0, stream, camera, vertices,
                   n_vertices, seen);
    if (error != 0) return error;
    error = launch(draw_kernel, dim3(blocks_for(n_faces, kDrawThreads)), kDrawThreads, 0, stream,
                   camera, seen, faces, n_vertices, n_faces, keys);
    if (error != 0) return error;
  }
  return launch(resolve_kernel, grid_for(pixels, 1), kThreads, 0, stream, camera, seen, faces,
                normals, n_vertices, keys, out);
}

int vertex_normals(const float* vertices, const int32_t* faces, const int32_t* corner_start,
                   const int32_t* corners, int64_t n_vertices, int64_t n_faces, int poses,
                   float* out, Stream stream) {
  return launch(normals_kernel, grid_for(n_vertices, poses), kThreads, 0, stream, vertices, faces,
                corner_start, corners, n_vertices, n_faces, out);
}

}  // namespace gas_rt::cuda
