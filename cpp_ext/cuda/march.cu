// Renders a field through a posed shell: one thread per ray, a warp per 8 x 4 pixels. Each thread
// walks on to its ray's next sample that counts; then the warp evaluates the field together, so
// that the expensive part runs with few idle threads.
#include "drivers.h"
#include "gas_rt/ray.h"
#include "shared_nets.h"

namespace gas_rt::cuda {
namespace {

constexpr int kTileWidth = 16, kTileHeight = 8;  // pixels of a block of threads: 2 x 2 warps
static_assert(kTileWidth * kTileHeight == kFieldThreads, "one thread per pixel");

struct Sample {
  float u[3];  // in the box's coordinates
  Vec3f direction;
};

// Moves k past the ray's next sample in the shell and in an occupied cell; false if there is none.
__device__ bool next_sample(const ShellView& shell, const PackedField& field,
                            const OccupancyView& occupancy, const Ray& ray, int samples, int* k,
                            Sample* out) {
  while (*k < samples) {
    const Vec3f point = sample_at(ray, (*k)++);
    const int32_t id = nearest_vertex(shell, point);
    if (id < 0) continue;
    const Vec3f canonical = to_canonical(shell, id, point);
    out->u[0] = normalised(field, 0, canonical.x);
    out->u[1] = normalised(field, 1, canonical.y);
    out->u[2] = normalised(field, 2, canonical.z);
    if (!occupied(occupancy, out->u)) continue;
    out->direction = normalized_or_zero(direction_to_canonical(shell, id, ray.step));
    return true;
  }
  return false;
}

__device__ void pixel_of_thread(int* column, int* row) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  *column = blockIdx.x * kTileWidth + warp % 2 * 8 + lane % 8;
  *row = blockIdx.y * kTileHeight + warp / 2 * 4 + lane / 8;
}

template <int C, typename Entry>
__global__ void __launch_bounds__(kFieldThreads, kFieldBlocks)
    march_kernel(const ShellHeader* shell, const __grid_constant__ PackedField field,
                 const __grid_constant__ MarchJob job) {
  GAS_RT_DYNAMIC_SHARED(shared);
  __shared__ RayBundle bundle;
  if (threadIdx.x == 0) bundle = make_bundle(job.camera, shell->view, job.samples);
  const float* nets = share_nets(field, shared);  // and makes the bundle visible
  int column, row;
  pixel_of_thread(&column, &row);
  const bool inside = column < job.camera.width && row < job.camera.height;
  Ray ray;
  bool alive = inside && make_ray(bundle, column, row, ray);
  int k = 0;
  float transmitted = 1.0f, sum[3] = {};
  while (true) {
    Sample sample;
    const bool found =
        alive && next_sample(shell->view, field, job.occupancy, ray, job.samples, &k, &sample);
    if (!__any_sync(0xffffffffu, found)) break;
    if (!found) continue;
    const FieldValue value = evaluate_sample<C, Entry>(field, nets, sample.u, sample.direction);
    const float passed = std::exp(-value.sigma * delta_at(ray, k - 1, job.samples));
    const float weight = transmitted * (1.0f - passed);
    for (int c = 0; c < 3; ++c) sum[c] += weight * value.rgb[c];
    transmitted *= passed;
    alive = !(transmitted < job.early_stop);
  }
  if (!inside) return;
  const int64_t pixel = static_cast<int64_t>(row) * job.camera.width + column;
  store3(job.rgb + 3 * pixel, load3(sum));
  job.alpha[pixel] = 1.0f - transmitted;
}

}  // namespace

int march(const ShellHeader* shell, const PackedField& field, const MarchJob& job, Stream stream) {
  const dim3 grid(blocks_for(job.camera.width, kTileWidth),
                  blocks_for(job.camera.height, kTileHeight));
  return with_instance(field, [&](auto instance) {
    using I = decltype(instance);
    return launch(march_kernel<I::kFeatures, typename I::EntryType>, grid, kFieldThreads,
                  net_bytes(field), stream, shell, field, job);
  });
}

}  // namespace gas_rt::cuda
