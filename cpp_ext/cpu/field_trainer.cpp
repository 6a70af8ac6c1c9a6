// Training is reproducible to the bit whatever the number of threads: the nets' gradients are
// summed per chunk of samples and the chunks in order; each level of the grid is owned by one task,
// which walks the samples in order.
#include "field_trainer.h"

#include "field_gradients.h"
#include "gas_rt/thread_pool.h"

namespace gas_rt {
namespace GAS_RT_ISA {
namespace {

static_assert(kTrainBlock == kBlock, "buffers are laid out for the drivers' blocks");

// Adam that leaves values without a gradient alone, moments included: most of the grid's entries
// are not near a sample of a step and shall not drift.
void adam_update(const AdamStep& adam, int64_t count, const float* gradient, float* value,
                 float* first, float* second) {
  const float keep1 = adam.beta1, keep2 = adam.beta2;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const VF g = load(gradient + i);
    const VF m = load(first + i), v = load(second + i), p = load(value + i);
    const VF m1 = m * keep1 + g * (1.0f - keep1);
    const VF v1 = v * keep2 + g * g * (1.0f - keep2);
    const VF p1 = p - adam.rate * m1 / (vsqrt(v1) + adam.epsilon);
    const VI moved = g != 0.0f;
    store(first + i, moved ? m1 : m);
    store(second + i, moved ? v1 : v);
    store(value + i, moved ? p1 : p);
  }
  for (; i < count; ++i) {
    const float g = gradient[i];
    if (g == 0.0f) continue;
    first[i] = first[i] * keep1 + g * (1.0f - keep1);
    second[i] = second[i] * keep2 + g * g * (1.0f - keep2);
    value[i] -= adam.rate * first[i] / (std::sqrt(second[i]) + adam.epsilon);
  }
}

void load_targets(const TrainBatch& batch, int64_t begin, int count, Targets& t) {
  const float mean = 1.0f / static_cast<float>(batch.count);
  for (int s = 0; s < kBlock; ++s) {
    const int64_t row = begin + (s < count ? s : 0);
    t.alpha[s] = batch.sigma[row] * batch.step_m;
    t.weight[s] = s < count ? (batch.weight ? batch.weight[row] * mean : mean) : 0.0f;
    for (int c = 0; c < 3; ++c) t.rgb[c][s] = batch.rgb[3 * row + c];
  }
  for (int s = 0; s < kBlock; s += kLanes) store(t.alpha + s, 1.0f - vexp(-load(t.alpha + s)));
}

void train_chunk(const TrainerBuffers& buffers, const TrainBatch& batch, const TransposedNets& nets,
                 int64_t chunk) {
  const int n_encoded = buffers.field.n_levels * buffers.field.n_features;
  float* partial = buffers.partial + chunk * kNetGradients;
  std::memset(partial, 0, sizeof(float) * NetLayout(buffers.field.n_padded).total);
  double loss = 0.0;
  FieldBlock block;
  BackwardBlock gradients;
  Targets targets;
  for (int q = 0; q < kTrainChunk; ++q) {
    const int64_t index = chunk * kTrainChunk + q, begin = index * kBlock;
    if (begin >= batch.count) break;
    const int count = static_cast<int>(batch.count - begin < kBlock ? batch.count - begin : kBlock);
    load_block(buffers.field, batch.points + 3 * begin, batch.directions + 3 * begin, count, block);
    load_targets(batch, begin, count, targets);
    evaluate_density(buffers.field, block);
    evaluate_colour(buffers.field, block);
    loss += backward(buffers.field, nets, block, targets, batch.colour_weight, gradients, partial);
    std::memcpy(buffers.position + index * 3 * kBlock, block.position, sizeof block.position);
    std::memcpy(buffers.d_encoded + index * n_encoded * kBlock, gradients.encoded,
                sizeof(float) * n_encoded * kBlock);
  }
  buffers.loss[chunk] = loss;
}

void scatter4(const Corners& corners, const float (*d_out)[kBlock], float* gradient) {
  alignas(64) float rows[kBlock * 4];
  to_rows(d_out, 4, 4, rows);
  for (int s = 0; s < kBlock; ++s) {
    const F4 d = load4(rows + 4 * s);
    for (int c = 0; c < 8; ++c) {
      float* entry = gradient + 4ull * corners.index[c][s];
      store4(entry, load4(entry) + d * corners.weight[c][s]);
    }
  }
}

void scatter(int n_features, const Corners& corners, const float (*d_out)[kBlock],
             float* gradient) {
  if (n_features == 4) return scatter4(corners, d_out, gradient);
  for (int s = 0; s < kBlock; ++s)
    for (int c = 0; c < 8; ++c)
      for (int f = 0; f < n_features; ++f)
        gradient[uint64_t(n_features) * corners.index[c][s] + f] +=
            d_out[f][s] * corners.weight[c][s];
}

void train_level(const TrainerBuffers& buffers, int64_t blocks, const AdamStep* adam, int l) {
  const FieldView& field = buffers.field;
  const GridLevel& level = field.levels[l];
  const int n_features = field.n_features, n_encoded = field.n_levels * n_features;
  const int64_t first = level.offset * n_features, count = int64_t(level.size) * n_features;
  float* gradient = buffers.table_gradient + first;
  std::memset(gradient, 0, sizeof(float) * count);
  Corners corners;
  for (int64_t b = 0; b < blocks; ++b) {
    using Rows = const float (*)[kBlock];
    find_corners(level, reinterpret_cast<Rows>(buffers.position + b * 3 * kBlock), corners);
    const float* d_out = buffers.d_encoded + (b * n_encoded + l * n_features) * kBlock;
    scatter(n_features, corners, reinterpret_cast<Rows>(d_out), gradient);
  }
  if (adam)
    adam_update(*adam, count, gradient, buffers.table + first, buffers.table_first + first,
                buffers.table_second + first);
}

// Chunk sums in order, into the stored layout: every padding input of the colour net is 1, so each
// of its columns has the folded column's gradient.
void reduce_nets(const TrainerBuffers& buffers, int64_t chunks) {
  const int n_padded = buffers.field.n_padded;
  const NetLayout folded(n_padded);
  const NetSizes stored(n_padded);
  float sum[kNetGradients];
  std::memcpy(sum, buffers.partial, sizeof(float) * folded.total);
  for (int64_t c = 1; c < chunks; ++c)
    for (int i = 0; i < folded.total; ++i) sum[i] += buffers.partial[c * kNetGradients + i];
  float* out = buffers.nets_gradient;
  std::memcpy(out, sum, sizeof(float) * folded.colour0);  // the density net is stored as it is
  float* colour0 = out + stored.density0 + stored.density1;
  for (int o = 0; o < kHidden; ++o)
    for (int i = 0; i < kColourPadded; ++i)
      colour0[o * kColourPadded + i] =
          sum[folded.colour0 + o * kColourIn + (i < kColourIn ? i : kColourIn - 1)];
  float* colour1 = colour0 + stored.colour0;
  std::memset(colour1, 0, sizeof(float) * stored.colour1);
  std::memcpy(colour1, sum + folded.colour1, sizeof(float) * 3 * kHidden);
}

}  // namespace

double train(const TrainerBuffers& buffers, const TrainBatch& batch, const AdamStep* adam,
             int threads) {
  const FieldView& field = buffers.field;
  TransposedNets nets;
  transpose(field.density0, kHidden, field.n_padded, nets.density0);
  transpose(field.density1, kGeometry, kHidden, nets.density1);
  transpose(field.colour1, 4, kHidden, nets.colour1);
  for (int o = 0; o < kHidden; ++o)
    for (int i = 0; i < kGeometry; ++i)
      nets.colour0[i * kHidden + o] = field.colour0[o * kColourIn + i];

  const int64_t blocks = (batch.count + kBlock - 1) / kBlock;
  const int64_t chunks = (blocks + kTrainChunk - 1) / kTrainChunk;
  parallel_for(chunks, threads, [&](int64_t c) { train_chunk(buffers, batch, nets, c); });
  parallel_for(field.n_levels, threads, [&](int64_t l) {
    // The finest levels first: they take longest, and the last task decides when all are done.
    train_level(buffers, blocks, adam, static_cast<int>(field.n_levels - 1 - l));
  });
  reduce_nets(buffers, chunks);
  if (adam) {
    const NetSizes stored(field.n_padded);
    adam_update(*adam, stored.total, buffers.nets_gradient, buffers.nets, buffers.nets_first,
                buffers.nets_second);
    fold_colour0(buffers.nets + stored.density0 + stored.density1, buffers.folded_colour0);
  }
  double loss = 0.0;
  for (int64_t c = 0; c < chunks; ++c) loss += buffers.loss[c];
  return loss;
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
