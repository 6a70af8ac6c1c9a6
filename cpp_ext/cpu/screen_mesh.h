// A mesh as a camera sees it, drawn band by band: rows of pixels whose buffers fit the cache.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "gas_rt/raster.h"
#include "gas_rt/thread_pool.h"

namespace gas_rt::GAS_RT_ISA {

constexpr int32_t kBandRows = 16;

// Four columns by two rows of pixels, in double to decide coverage and in float to be stored.
constexpr int kTileWidth = 4, kTileHeight = 2, kTilePixels = kTileWidth * kTileHeight;
typedef double Tile __attribute__((vector_size(8 * kTilePixels)));
typedef float TileFloats __attribute__((vector_size(4 * kTilePixels)));
typedef int32_t TileInts __attribute__((vector_size(4 * kTilePixels)));

// A band's pixels, one plane per value. Rows are longer than the picture's and there is one more of
// them, since tiles begin anywhere.
class BandPixels {
 public:
  explicit BandPixels(int32_t width)
      : stride_(width + kTileWidth), face_id_(size()), depth_(size()), barycentric_(3 * size()) {}

  int64_t stride() const { return stride_; }
  int32_t* face_id() { return face_id_.data(); }  // -1 = none
  float* depth() { return depth_.data(); }        // infinity = none
  // Of corner i; anything where no face is seen.
  float* barycentric(int i) { return barycentric_.data() + i * size(); }

  void clear() {
    std::fill(face_id_.begin(), face_id_.end(), -1);
    std::fill(depth_.begin(), depth_.end(), std::numeric_limits<float>::infinity());
  }

 private:
  int64_t size() const { return stride_ * (kBandRows + kTileHeight - 1); }

  int64_t stride_;
  std::vector<int32_t> face_id_;
  std::vector<float> depth_, barycentric_;
};

// A tile's row as it is stored.
typedef float RowFloats __attribute__((vector_size(4 * kTileWidth)));
typedef int32_t RowInts __attribute__((vector_size(4 * kTileWidth)));

template <typename Vector, typename Scalar>
GAS_RT_HD Vector load_row(const Scalar* at) {
  Vector out;
  std::memcpy(&out, at, sizeof out);
  return out;
}

// Puts values where the condition holds.
template <typename Vector, typename Scalar>
GAS_RT_HD void blend_row(Scalar* at, RowInts condition, Vector values) {
  const Vector out = condition ? values : load_row<Vector>(at);
  std::memcpy(at, &out, sizeof out);
}

GAS_RT_HD void store_floats(float* out, Tile values) {
  const TileFloats narrow = __builtin_convertvector(values, TileFloats);
  std::memcpy(out, &narrow, sizeof narrow);
}

GAS_RT_HD bool none(TileInts condition) {
  typedef int8_t Bytes __attribute__((vector_size(kTilePixels)));
  const Bytes flags = __builtin_convertvector(condition, Bytes);
  uint64_t bytes;
  std::memcpy(&bytes, &flags, sizeof bytes);
  return bytes == 0;
}

// Draws rows [y0, y1] of one triangle. Of equal depths the first face drawn stays. Tiles reach
// beyond the triangle's bounds, but it covers nothing there.
inline void draw_triangle(const TriangleEdges& edges, const PixelBounds& bounds, int32_t y0,
                          int32_t y1, int32_t top, int32_t face, BandPixels& out) {
  const Tile columns = {0, 1, 2, 3, 0, 1, 2, 3}, rows = {0, 0, 0, 0, 1, 1, 1, 1};
  // e > above where e > 0, or e = 0 and the triangle owns the edge.
  double above[3];
  for (int i = 0; i < 3; ++i) {
    above[i] = edges.owns[i] ? -std::numeric_limits<double>::denorm_min() : 0.0;
  }
  for (int32_t y = y0; y <= y1; y += kTileHeight) {
    const Tile py = rows + (y + 0.5);
    Tile row[3];
    for (int i = 0; i < 3; ++i) row[i] = edges.b[i] * py + edges.c[i];
    for (int32_t x = bounds.x0; x <= bounds.x1; x += kTileWidth) {
      const Tile px = columns + (x + 0.5);
      Tile e[3];
      for (int i = 0; i < 3; ++i) e[i] = edges.a[i] * px + row[i];
      const TileInts covered = __builtin_convertvector(
          (e[0] > above[0]) & (e[1] > above[1]) & (e[2] > above[2]), TileInts);
      if (none(covered)) continue;
      const Tile scale = 1.0 / (e[0] + e[1] + e[2]);
      for (int i = 0; i < 3; ++i) e[i] *= scale;
      // Whole tiles are put down and rows picked up: the halves of a vector cost a trip to memory
      // where the compiler has no better way.
      float z[kTilePixels], weight[3][kTilePixels];
      int32_t inside[kTilePixels];
      store_floats(z, e[0] * edges.z[0] + e[1] * edges.z[1] + e[2] * edges.z[2]);
      for (int i = 0; i < 3; ++i) store_floats(weight[i], e[i]);
      std::memcpy(inside, &covered, sizeof inside);
      for (int half = 0; half < kTilePixels; half += kTileWidth) {
        const int64_t at = (y - top + half / kTileWidth) * out.stride() + x;
        const RowFloats row_z = load_row<RowFloats>(z + half);
        const RowInts nearer = load_row<RowInts>(inside + half) & (row_z >= kNearPlaneM) &
                               (row_z < load_row<RowFloats>(out.depth() + at));
        blend_row(out.depth() + at, nearer, row_z);
        blend_row(out.face_id() + at, nearer, RowInts{} + face);
        for (int i = 0; i < 3; ++i) {
          blend_row(out.barycentric(i) + at, nearer, load_row<RowFloats>(weight[i] + half));
        }
      }
    }
  }
}

class ScreenMesh {
 public:
  ScreenMesh(const CameraView& camera, const float* vertices, int64_t n_vertices,
             const int32_t* faces, int64_t n_faces, int threads)
      : camera_(camera), faces_(faces), corners_(n_vertices), bounds_(n_faces) {
    std::vector<Pixel> pixels(n_vertices);
    parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        const Vec3f seen = world_to_camera(camera, load3(vertices + 3 * v));
        corners_[v] = seen;
        pixels[v] = project(camera, seen.x, seen.y, seen.z);
      }
    });
    parallel_ranges(n_faces, kFacesPerTask, threads, [&](int64_t begin, int64_t end) {
      for (int64_t f = begin; f < end; ++f) bounds_[f] = bounds(faces + 3 * f, pixels);
    });
    sort_into_bands();
  }

  int64_t bands() const { return static_cast<int64_t>(start_.size()) - 1; }
  // A task reuses the pixels of its bands; bands differ in work, so there are more tasks than
  // threads.
  int64_t bands_per_task(int threads) const {
    return std::max<int64_t>(1, bands() / (4 * static_cast<int64_t>(threads)));
  }
  // The first row of a band, or the row below the last band.
  int32_t top(int64_t band) const {
    return std::min(static_cast<int32_t>(band) * kBandRows, camera_.height);
  }

  // Draws a band into cleared pixels.
  void draw(int64_t band, BandPixels& out) const {
    const int32_t first = top(band), last = top(band + 1) - 1;
    for (int64_t at = start_[band]; at < start_[band + 1]; ++at) {
      const int32_t f = order_[at];
      const int32_t* face = faces_ + 3 * static_cast<int64_t>(f);
      const Vec3f corner[3] = {corners_[face[0]], corners_[face[1]], corners_[face[2]]};
      TriangleEdges edges;
      if (!setup_edges(camera_, corner, &edges)) continue;
      const PixelBounds& box = bounds_[f];
      draw_triangle(edges, box, std::max(box.y0, first), std::min(box.y1, last), first, f, out);
    }
  }

 private:
  static constexpr int64_t kVerticesPerTask = 2048;
  static constexpr int64_t kFacesPerTask = 2048;

  PixelBounds bounds(const int32_t* face, const std::vector<Pixel>& pixels) const {
    const Vec3f corner[3] = {corners_[face[0]], corners_[face[1]], corners_[face[2]]};
    if (!(corner[0].z >= kNearPlaneM && corner[1].z >= kNearPlaneM && corner[2].z >= kNearPlaneM)) {
      return triangle_bounds(camera_, corner);
    }
    PixelBox box;
    for (int i = 0; i < 3; ++i) box.include(pixels[face[i]]);
    return pixels_in(camera_, box);
  }

  static bool empty(const PixelBounds& box) { return box.x1 < box.x0 || box.y1 < box.y0; }

  // Lists the faces of every band, lowest first.
  void sort_into_bands() {
    const int64_t count = (camera_.height + kBandRows - 1) / kBandRows;
    start_.assign(count + 1, 0);
    for (const PixelBounds& box : bounds_) {
      if (empty(box)) continue;
      for (int32_t b = box.y0 / kBandRows; b <= box.y1 / kBandRows; ++b) ++start_[b + 1];
    }
    for (int64_t b = 0; b < count; ++b) start_[b + 1] += start_[b];
    order_.resize(start_[count]);
    std::vector<int64_t> next(start_.begin(), start_.end() - 1);
    for (size_t f = 0; f < bounds_.size(); ++f) {
      const PixelBounds& box = bounds_[f];
      if (empty(box)) continue;
      for (int32_t b = box.y0 / kBandRows; b <= box.y1 / kBandRows; ++b) {
        order_[next[b]++] = static_cast<int32_t>(f);
      }
    }
  }

  const CameraView& camera_;
  const int32_t* faces_;
  std::vector<Vec3f> corners_;  // in the camera's frame
  std::vector<PixelBounds> bounds_;
  std::vector<int64_t> start_;  // [bands + 1] into order_
  std::vector<int32_t> order_;
};

}  // namespace gas_rt::GAS_RT_ISA
