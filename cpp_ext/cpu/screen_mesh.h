// A mesh as a camera sees it, drawn band by band: rows of pixels whose buffers fit the cache.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "gas_rt/raster.h"
#include "gas_rt/thread_pool.h"

namespace gas_rt::GAS_RT_ISA {

constexpr int32_t kBandRows = 32;

// Two columns by four rows of pixels, in double to decide coverage and in float to be stored.
constexpr int kTileWidth = 2, kTileHeight = 4, kTilePixels = kTileWidth * kTileHeight;
typedef double Tile __attribute__((vector_size(8 * kTilePixels)));
typedef float TileFloats __attribute__((vector_size(4 * kTilePixels)));
typedef int32_t TileInts __attribute__((vector_size(4 * kTilePixels)));

// A band's pixels, one plane per value. A plane is made of strips of kTileWidth columns, row after
// row, so that a tile that begins in any row of a strip is one run of memory. Strips reach below
// the band, as far as a tile that begins in its last row.
class BandPixels {
 public:
  explicit BandPixels(int32_t width)
      : size_((width + kTileWidth - 1) / kTileWidth * kStrip),
        face_id_(size_),
        depth_(size_),
        barycentric_(3 * size_) {}

  static int64_t at(int32_t x, int32_t row) {
    return x / kTileWidth * kStrip + row * kTileWidth + x % kTileWidth;
  }
  int32_t* face_id() { return face_id_.data(); }  // -1 = none
  float* depth() { return depth_.data(); }        // infinity = none
  // Of corner i; anything where no face is seen.
  float* barycentric(int i) { return barycentric_.data() + i * size_; }

  // Columns [begin, end) hold all that was drawn; the first is a strip's.
  int32_t begin() const { return begin_; }
  int32_t end() const { return end_; }
  void reach(int32_t first, int32_t last) {
    begin_ = std::min(begin_, first & -kTileWidth), end_ = std::max(end_, last + 1);
  }

  void clear() {
    std::fill(face_id_.begin(), face_id_.end(), -1);
    std::fill(depth_.begin(), depth_.end(), std::numeric_limits<float>::infinity());
    begin_ = std::numeric_limits<int32_t>::max(), end_ = 0;
  }

 private:
  static constexpr int64_t kStrip = kTileWidth * (kBandRows + kTileHeight - 1);

  int64_t size_;
  int32_t begin_ = 0, end_ = 0;
  std::vector<int32_t> face_id_;
  std::vector<float> depth_, barycentric_;
};

template <typename Vector, typename Scalar>
GAS_RT_HD Vector load_tile(const Scalar* at) {
  Vector out;
  std::memcpy(&out, at, sizeof out);
  return out;
}

// Puts values where the condition holds.
template <typename Vector, typename Scalar>
GAS_RT_HD void blend_tile(Scalar* at, TileInts condition, Vector values) {
  const Vector out = condition ? values : load_tile<Vector>(at);
  std::memcpy(at, &out, sizeof out);
}

GAS_RT_HD TileFloats to_floats(Tile values) { return __builtin_convertvector(values, TileFloats); }

GAS_RT_HD bool none(TileInts condition) {
#if defined(__AVX__)
  return _mm256_testz_si256((__m256i)condition, (__m256i)condition) != 0;
#else
  typedef int8_t Bytes __attribute__((vector_size(kTilePixels)));
  const Bytes flags = __builtin_convertvector(condition, Bytes);
  uint64_t bytes;
  std::memcpy(&bytes, &flags, sizeof bytes);
  return bytes == 0;
#endif
}

constexpr int kSideBySide = 8;  // triangles that are set up together
typedef double Doubles __attribute__((vector_size(8 * kSideBySide)));

struct TriangleBlock {
  EdgeFunctions<Doubles> edges;
  Doubles above[3];  // e > above where e > 0, or e = 0 and the triangle owns the edge
  Doubles z[3];      // depths of the corners
};

// One of a block.
struct DrawnTriangle {
  double a[3], b[3], c[3], above[3], z[3];
  int32_t face;

  DrawnTriangle(const TriangleBlock& block, int s, int32_t name) : face(name) {
    for (int i = 0; i < 3; ++i) {
      a[i] = block.edges.a[i][s], b[i] = block.edges.b[i][s], c[i] = block.edges.c[i][s];
      above[i] = block.above[i][s], z[i] = block.z[i][s];
    }
  }
};

// Draws rows [y0, y1] of one triangle. Of equal depths the lowest face stays, in whatever order
// they are drawn. Tiles reach beyond the triangle's bounds, but it covers nothing there.
inline void draw_triangle(const DrawnTriangle& triangle, const PixelBounds& bounds, int32_t y0,
                          int32_t y1, int32_t top, BandPixels& out) {
  const float nearest_z =
      static_cast<float>(std::min({triangle.z[0], triangle.z[1], triangle.z[2]}));
  const Tile columns = {0.5, 1.5, 0.5, 1.5, 0.5, 1.5, 0.5, 1.5};
  const Tile rows = {0.5, 0.5, 1.5, 1.5, 2.5, 2.5, 3.5, 3.5};
  const int32_t x0 = bounds.x0 & -kTileWidth;
  for (int32_t y = y0; y <= y1; y += kTileHeight) {
    const Tile py = rows + static_cast<double>(y);
    Tile row[3];
    for (int i = 0; i < 3; ++i) row[i] = triangle.b[i] * py + triangle.c[i];
    for (int32_t x = x0; x <= bounds.x1; x += kTileWidth) {
      const int64_t at = BandPixels::at(x, y - top);
      // Depths in the triangle are means of its corners', so here it is behind all that was drawn.
      const TileFloats depth = load_tile<TileFloats>(out.depth() + at);
      if (none(depth >= nearest_z)) continue;
      const Tile px = columns + static_cast<double>(x);
      Tile e[3];
      for (int i = 0; i < 3; ++i) e[i] = triangle.a[i] * px + row[i];
      const TileInts covered = __builtin_convertvector(
          (e[0] > triangle.above[0]) & (e[1] > triangle.above[1]) & (e[2] > triangle.above[2]),
          TileInts);
      if (none(covered)) continue;
      const Tile scale = 1.0 / (e[0] + e[1] + e[2]);
      for (int i = 0; i < 3; ++i) e[i] *= scale;
      const TileFloats z =
          to_floats(e[0] * triangle.z[0] + e[1] * triangle.z[1] + e[2] * triangle.z[2]);
      const TileInts before = load_tile<TileInts>(out.face_id() + at) > triangle.face;
      const TileInts nearer =
          covered & (z >= kNearPlaneM) & ((z < depth) | ((z == depth) & before));
      blend_tile(out.depth() + at, nearer, z);
      blend_tile(out.face_id() + at, nearer, TileInts{} + triangle.face);
      for (int i = 0; i < 3; ++i) blend_tile(out.barycentric(i) + at, nearer, to_floats(e[i]));
    }
  }
}

class ScreenMesh {
 public:
  ScreenMesh(const CameraView& camera, const float* vertices, int64_t n_vertices,
             const int32_t* faces, int64_t n_faces, int threads)
      : camera_(camera), faces_(faces), corners_(n_vertices), bounds_(n_faces), away_(n_faces) {
    std::vector<SeenVertex> seen(n_vertices);
    parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
      for (int64_t v = begin; v < end; ++v) {
        corners_[v] = world_to_camera(camera, load3(vertices + 3 * v));
        seen[v] = SeenVertex(camera, corners_[v]);
      }
    });
    parallel_ranges(n_faces, kFacesPerTask, threads, [&](int64_t begin, int64_t end) {
      for (int64_t f = begin; f < end; ++f) set_bounds(f, seen);
    });
    sort_into_bands();
  }

  // The first row of a band, or the row below the last band.
  int32_t top(int64_t band) const {
    return std::min(static_cast<int32_t>(band) * kBandRows, camera_.height);
  }

  // Draws every band and calls done(band, pixels) with it, on several threads.
  template <typename Done>
  void draw_bands(int threads, const Done& done) const {
    parallel_ranges(bands(), bands_per_task(threads), threads, [&](int64_t begin, int64_t end) {
      BandPixels pixels(camera_.width);
      for (int64_t band = begin; band < end; ++band) {
        pixels.clear();
        draw(band, pixels);
        done(band, pixels);
      }
    });
  }

 private:
  static constexpr int64_t kVerticesPerTask = 2048;
  static constexpr int64_t kFacesPerTask = 2048;

  int64_t bands() const { return static_cast<int64_t>(start_.size() - 1) / 2; }
  // A task reuses the pixels of its bands; bands differ in work, so there are more tasks than
  // threads.
  int64_t bands_per_task(int threads) const {
    return std::max<int64_t>(1, bands() / (4 * static_cast<int64_t>(threads)));
  }

  // Draws a band into cleared pixels.
  void draw(int64_t band, BandPixels& out) const {
    const int32_t first = top(band), last = top(band + 1) - 1;
    TriangleBlock block;
    for (int64_t at = start_[2 * band], end = start_[2 * band + 2]; at < end; at += kSideBySide) {
      const int count = static_cast<int>(std::min<int64_t>(kSideBySide, end - at));
      set_up(order_.data() + at, count, &block);
      for (int s = 0; s < count; ++s) {
        const int32_t face = order_[at + s];
        const PixelBounds& box = bounds_[face];
        out.reach(box.x0, box.x1);
        draw_triangle({block, s, face}, box, std::max(box.y0, first), std::min(box.y1, last), first,
                      out);
      }
    }
  }

  void set_up(const int32_t* names, int count, TriangleBlock* out) const {
    float corner[3][3][kSideBySide];
    for (int s = 0; s < kSideBySide; ++s) {
      const int32_t* face = faces_ + 3 * static_cast<int64_t>(names[s < count ? s : 0]);
      for (int i = 0; i < 3; ++i) {
        const Vec3f& v = corners_[face[i]];
        corner[i][0][s] = v.x, corner[i][1][s] = v.y, corner[i][2][s] = v.z;
      }
    }
    typedef float Narrow __attribute__((vector_size(4 * kSideBySide)));
    const auto wide = [](const float* from) {
      return __builtin_convertvector(load_tile<Narrow>(from), Doubles);
    };
    Vec3<Doubles> v[3];
    for (int i = 0; i < 3; ++i) v[i] = {wide(corner[i][0]), wide(corner[i][1]), wide(corner[i][2])};
    const auto covers = setup_edges(camera_, v, &out->edges);
    const Doubles zero{}, infinity = zero + std::numeric_limits<double>::infinity();
    for (int i = 0; i < 3; ++i) {
      const Doubles inside =
          out->edges.owns[i] ? zero - std::numeric_limits<double>::denorm_min() : zero;
      out->above[i] = covers ? inside : infinity;
      out->z[i] = v[i].z;
    }
  }

  // A vertex in the picture; meaningless in front of the near plane.
  struct SeenVertex {
    // First column and row, last column and row; the last ones negated, so that a triangle's pixels
    // are the least of its vertices'.
    typedef int32_t Extent __attribute__((vector_size(16)));
    Extent extent{};
    float u = 0.0f, v = 0.0f;

    SeenVertex() = default;
    SeenVertex(const CameraView& camera, Vec3f at) {
      const Pixel p = project(camera, at.x, at.y, at.z);
      extent = Extent{first_pixel(p.u, camera.width), first_pixel(p.v, camera.height),
                      -last_pixel(p.u, camera.width), -last_pixel(p.v, camera.height)};
      u = static_cast<float>(p.u), v = static_cast<float>(p.v);
    }
  };

  void set_bounds(int64_t f, const std::vector<SeenVertex>& seen) {
    const int32_t* face = faces_ + 3 * f;
    const Vec3f corner[3] = {corners_[face[0]], corners_[face[1]], corners_[face[2]]};
    if (!(corner[0].z >= kNearPlaneM && corner[1].z >= kNearPlaneM && corner[2].z >= kNearPlaneM)) {
      bounds_[f] = triangle_bounds(camera_, corner);
      return;
    }
    const SeenVertex &p = seen[face[0]], &q = seen[face[1]], &r = seen[face[2]];
    SeenVertex::Extent least = p.extent < q.extent ? p.extent : q.extent;
    least = least < r.extent ? least : r.extent;
    bounds_[f] = {least[0], least[1], -least[2], -least[3]};
    away_[f] = (q.u - p.u) * (r.v - p.v) > (q.v - p.v) * (r.u - p.u);
  }

  static bool empty(const PixelBounds& box) { return box.x1 < box.x0 || box.y1 < box.y0; }

  // Lists the faces of every band: those that face the camera, then those behind them that look
  // away, most of which need not be drawn any more.
  void sort_into_bands() {
    const int64_t count = (camera_.height + kBandRows - 1) / kBandRows;
    start_.assign(2 * count + 1, 0);
    const auto for_each_list = [&](auto&& function) {
      for (size_t f = 0; f < bounds_.size(); ++f) {
        const PixelBounds& box = bounds_[f];
        if (empty(box)) continue;
        for (int32_t b = box.y0 / kBandRows; b <= box.y1 / kBandRows; ++b) {
          function(f, 2 * b + away_[f]);
        }
      }
    };
    for_each_list([&](size_t, int32_t list) { ++start_[list + 1]; });
    for (int64_t list = 0; list < 2 * count; ++list) start_[list + 1] += start_[list];
    order_.resize(start_.back());
    std::vector<int64_t> next(start_.begin(), start_.end() - 1);
    for_each_list([&](size_t f, int32_t list) { order_[next[list]++] = static_cast<int32_t>(f); });
  }

  const CameraView& camera_;
  const int32_t* faces_;
  std::vector<Vec3f> corners_;  // in the camera's frame
  std::vector<PixelBounds> bounds_;
  std::vector<uint8_t> away_;   // whether a face looks away from the camera
  std::vector<int64_t> start_;  // [2 * bands + 1] into order_
  std::vector<int32_t> order_;
};

}  // namespace gas_rt::GAS_RT_ISA
