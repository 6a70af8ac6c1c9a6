// Renders a field through a posed shell. A tile's rays feed one queue of samples; whenever it is a
// block long the field is evaluated for it, so vectors stay full however few samples a ray has.
#include <algorithm>
#include <cstring>

#include "field_block.h"
#include "gas_rt/march_table.h"
#include "gas_rt/thread_pool.h"
#include "lattice_walk.h"
#include "march_samples.h"
#include "shell_outline.h"
#include "upsample.h"

namespace gas_rt {
namespace GAS_RT_ISA {
namespace {

// Pixels. Every tile ends with a block that is not full, so small ones waste the field's time.
constexpr int kTileWidth = 32, kTileHeight = 16;
constexpr int kPerRound = 3;  // samples a ray may add before the others have their turn
constexpr int kCacheLine = 64;

// Asks for memory that is read after some more work: a picture's tables do not fit the near caches.
inline void prefetch(const void* begin, size_t bytes) {
  const char* at = static_cast<const char*>(begin);
  for (size_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(at + i);
}

struct TileRay {
  WalkedRay walked;
  float transmitted;
  float rgb[3];
};

class TileMarch {
 public:
  TileMarch(const ShellView& shell, const LatticeWalk& walk, const FieldView& field,
            const OccupancyView& occupancy, const MarchSettings& settings)
      : shell_(shell), walk_(walk), field_(field), occupancy_(occupancy), settings_(settings) {}

  void add(const Ray& ray) { rays_[n_rays_++] = {walk_.start(ray), 1.0f, {0.0f, 0.0f, 0.0f}}; }
  const TileRay& result(int index) const { return rays_[index]; }

  void run() {
    int alive[kTileWidth * kTileHeight], n_alive = n_rays_;
    for (int i = 0; i < n_rays_; ++i) alive[i] = i;
    // Without early stop a ray's samples do not depend on what is found: one round is enough.
    const int per_round = settings_.early_stop > 0.0f ? kPerRound : settings_.samples;
    while (n_alive > 0) {
      int kept = 0;
      for (int i = 0; i < n_alive; ++i) {
        TileRay& ray = rays_[alive[i]];
        if (ray.transmitted < settings_.early_stop) continue;
        if (advance(ray, alive[i], per_round)) alive[kept++] = alive[i];
      }
      n_alive = kept;
    }
    place_found();
    flush();
  }

 private:
  // Takes up to `limit` samples of a ray; false if it has no more.
  bool advance(TileRay& ray, int index, int limit) {
    for (; limit > 0; --limit) {
      Vec3f point;
      if (!walk_.advance(ray.walked, &lattice_index_[n_found_], &point, &leaf_[n_found_])) {
        return false;
      }
      store3(point_ + 3 * n_found_, point);
      found_owner_[n_found_] = index;
      if (leaf_[n_found_].begin != nullptr) {
        prefetch(leaf_[n_found_].begin, 2 * sizeof(ShellLanes));
      }
      if (++n_found_ == kPointBlock) place_found();
    }
    return true;
  }

  // Carries the samples found to canonical space and queues those that may hold density. Both
  // tests are as good as random: samples are sorted out by arithmetic, not by branches.
  void place_found() {
    int32_t vertex[kPointBlock];
    nearest_in_leaves(shell_, leaf_, point_, n_found_, vertex);
    int inside[kPointBlock], n_inside = 0;
    for (int i = 0; i < n_found_; ++i) {
      inside[n_inside] = i;
      n_inside += vertex[i] >= 0;
    }
    constexpr int kMap = 12;  // floats
    for (int j = 0; j < n_inside; ++j) {
      prefetch(shell_.maps + kMap * int64_t{vertex[inside[j]]}, kMap * sizeof(float));
    }
    float u[kPointBlock][3];
    bool full[kPointBlock];
    for (int j = 0; j < n_inside; ++j) {
      const int i = inside[j];
      const Vec3f canonical = to_canonical(shell_, vertex[i], load3(point_ + 3 * i));
      const float at[3] = {normalised(field_, 0, canonical.x), normalised(field_, 1, canonical.y),
                           normalised(field_, 2, canonical.z)};
      full[j] = occupied(occupancy_, at);
      std::memcpy(u[j], at, sizeof at);
    }
    int kept[kPointBlock], n_kept = 0;
    for (int j = 0; j < n_inside; ++j) {
      kept[n_kept] = j;
      n_kept += full[j];
    }
    for (int j = 0; j < n_kept; ++j) queue(inside[kept[j]], vertex[inside[kept[j]]], u[kept[j]]);
    n_found_ = 0;
  }

  // u: [3] where found sample i is in the field's box
  void queue(int i, int32_t vertex, const float* u) {
    const Ray& ray = rays_[found_owner_[i]].walked.ray;
    const Vec3f direction = normalized_or_zero(direction_to_canonical(shell_, vertex, ray.step));
    for (int d = 0; d < 3; ++d) block_.position[d][n_queued_] = u[d];
    block_.colour_in[kGeometry][n_queued_] = direction.x;
    block_.colour_in[kGeometry + 1][n_queued_] = direction.y;
    block_.colour_in[kGeometry + 2][n_queued_] = direction.z;
    delta_[n_queued_] = delta_at(ray, lattice_index_[i], settings_.samples);
    owner_[n_queued_] = found_owner_[i];
    if (++n_queued_ == kBlock) flush();
  }

  void flush() {
    if (n_queued_ == 0) return;
    for (int s = n_queued_; s < kBlock; ++s) {
      for (int d = 0; d < 3; ++d) block_.position[d][s] = 0.0f;
      for (int d = 0; d < 3; ++d) block_.colour_in[kGeometry + d][s] = 0.0f;
      delta_[s] = 0.0f;
    }
    evaluate_density(field_, block_);
    evaluate_colour(field_, block_);
    alignas(64) float passed[kBlock];
    for (int s = 0; s < kBlock; s += kLanes)
      store(passed + s, vexp(-load(block_.sigma + s) * load(delta_ + s)));
    for (int s = 0; s < n_queued_; ++s) {
      TileRay& ray = rays_[owner_[s]];
      // Samples queued before the ray ended do not count: the result shall not depend on queueing.
      if (ray.transmitted < settings_.early_stop) continue;
      const float weight = ray.transmitted * (1.0f - passed[s]);
      for (int c = 0; c < 3; ++c) ray.rgb[c] += weight * block_.rgb[c][s];
      ray.transmitted *= passed[s];
    }
    n_queued_ = 0;
  }

  const ShellView& shell_;
  const LatticeWalk& walk_;
  const FieldView& field_;
  const OccupancyView& occupancy_;
  const MarchSettings& settings_;
  TileRay rays_[kTileWidth * kTileHeight];
  int n_rays_ = 0;
  // Samples in leaves that list vertices.
  ShellLeaf leaf_[kPointBlock];
  float point_[3 * kPointBlock];
  int lattice_index_[kPointBlock], found_owner_[kPointBlock];
  int n_found_ = 0;
  // Samples the field is to be evaluated at.
  FieldBlock block_;
  alignas(64) float delta_[kBlock];
  int owner_[kBlock];
  int n_queued_ = 0;
};

void render_tile(const ShellView& shell, const LatticeWalk& walk, const FieldView& field,
                 const CameraView& camera, const RayBundle& bundle, const ShellOutline& outline,
                 const OccupancyView& occupancy, const MarchSettings& settings, int left, int top,
                 float* rgb, float* alpha) {
  TileMarch march(shell, walk, field, occupancy, settings);
  const int right = std::min(left + kTileWidth, camera.width);
  const int bottom = std::min(top + kTileHeight, camera.height);
  int64_t pixel[kTileWidth * kTileHeight];
  int n = 0;
  for (int row = top; row < bottom; ++row)
    for (int column = left; column < right; ++column) {
      const int64_t at = static_cast<int64_t>(row) * camera.width + column;
      rgb[3 * at] = rgb[3 * at + 1] = rgb[3 * at + 2] = alpha[at] = 0.0f;
      Ray ray;
      if (!outline.holds(column, row) || !make_ray(bundle, column, row, ray)) continue;
      march.add(ray);
      pixel[n++] = at;
    }
  march.run();
  for (int i = 0; i < n; ++i) {
    const TileRay& ray = march.result(i);
    for (int c = 0; c < 3; ++c) rgb[3 * pixel[i] + c] = ray.rgb[c];
    alpha[pixel[i]] = 1.0f - ray.transmitted;
  }
}

void render(const ShellView& shell, const FieldView& field, const CameraView& camera,
            const OccupancyView& occupancy, const MarchSettings& settings, float* rgb,
            float* alpha) {
  const RayBundle bundle = make_bundle(camera, shell, settings.samples);
  const ShellBits bits(shell);
  const LatticeWalk walk(shell, bits, settings.samples);
  const ShellOutline outline(shell, bits, bundle, camera.width, camera.height);
  const int columns = (camera.width + kTileWidth - 1) / kTileWidth;
  const int rows = (camera.height + kTileHeight - 1) / kTileHeight;
  parallel_for(static_cast<int64_t>(columns) * rows, settings.threads, [&](int64_t tile) {
    const int left = static_cast<int>(tile % columns) * kTileWidth;
    const int top = static_cast<int>(tile / columns) * kTileHeight;
    render_tile(shell, walk, field, camera, bundle, outline, occupancy, settings, left, top, rgb,
                alpha);
  });
}

}  // namespace

const MarchTable& march_table() {
  static const MarchTable table = {render, find_samples, fill_samples, composite, upsample};
  return table;
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
