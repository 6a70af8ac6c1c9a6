// The hash-grid field: parameters, evaluation, training. Shapes are checked by the Python face.
#include "field.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "arrays.h"
#include "bindings.h"

namespace gas_rt {

void Field::bind_pointers() {
  const NetSizes sizes(view.n_padded);
  view.table = half_table.empty() ? table.data() : nullptr;
  view.half_table = half_table.empty() ? nullptr : half_table.data();
  view.density0 = nets.data();
  view.density1 = view.density0 + sizes.density0;
  view.colour0 = folded_colour0.data();
  view.colour1 = nets.data() + sizes.density0 + sizes.density1 + sizes.colour0;
}

namespace {

using Points = F32In<-1, 3>;
using Release = nb::gil_scoped_release;
using Table = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const FieldTable& table() { return GAS_RT_SELECT(field_table); }

std::vector<float> copied(const F32In<-1>& a) { return {a.data(), a.data() + a.size()}; }

// nets: the density net, then the colour net, as stored.
void make_field(Field* field, const std::vector<float>& scales,
                const std::vector<int64_t>& resolutions, const std::vector<int64_t>& sizes,
                int features, Table values, F32In<-1> nets, std::array<float, 3> lo,
                std::array<float, 3> hi, float density_scale) {
  const size_t n = scales.size();
  require(n >= 1 && n <= kMaxLevels && features >= 1 && n * features <= kMaxEncoded &&
              resolutions.size() == n && sizes.size() == n,
          "Field: wrong number of levels or features");
  FieldView view{};
  view.n_levels = static_cast<int>(n);
  view.n_features = features;
  view.n_padded = (view.n_levels * features + 15) / 16 * 16;
  uint64_t offset = 0;
  for (size_t l = 0; l < n; ++l) {
    const uint64_t r = resolutions[l], size = sizes[l];
    const bool hashed = r * r * r > size;
    require(r >= 2 && r <= (1u << 20) && size >= 8 && size <= (1u << 24) &&
                (!hashed || !(size & (size - 1))),
            "Field: bad level");
    view.levels[l] = {scales[l], static_cast<uint32_t>(r), static_cast<uint32_t>(size), hashed,
                      offset};
    offset += size;
  }
  const NetSizes stored(view.n_padded);
  require(values.size() == offset * features && rows(nets) == stored.total,
          "Field: sizes of table or nets differ from the grid's");
  const nb::dlpack::dtype type = values.dtype();
  require(type.code == uint8_t(nb::dlpack::dtype_code::Float) && type.lanes == 1 &&
              (type.bits == 32 || type.bits == 16),
          "Field: the table is neither float32 nor float16");
  for (int d = 0; d < 3; ++d) {
    view.lo[d] = lo[d];
    view.inverse_extent[d] = 1.0f / (hi[d] - lo[d]);
  }
  view.density_scale = density_scale;
  new (field) Field;
  field->view = view;
  if (values.dtype() == nb::dtype<float>()) {
    const auto* first = static_cast<const float*>(values.data());
    field->table.assign(first, first + values.size());
  } else {
    const auto* first = static_cast<const uint16_t*>(values.data());
    field->half_table.assign(first, first + values.size());
  }
  field->nets = copied(nets);
  field->folded_colour0.resize(kHidden * kColourIn);
  fold_colour0(field->nets.data() + stored.density0 + stored.density1,
               field->folded_colour0.data());
  field->bind_pointers();
}

class Trainer {
 public:
  explicit Trainer(const Field& initial) : field_(initial) {
    require(initial.half_table.empty(), "Trainer: the field's table is not float32");
    field_.bind_pointers();
    for (auto* moments : {&nets_first_, &nets_second_, &nets_gradient_})
      moments->assign(field_.nets.size(), 0.0f);
    for (auto* moments : {&table_first_, &table_second_, &table_gradient_})
      moments->assign(field_.table.size(), 0.0f);
  }

  // Called without the GIL: two Python threads may be here at once.
  double run(const TrainBatch& batch, float lr, float beta1, float beta2, float epsilon,
             int threads) {
    const std::lock_guard<std::mutex> lock(running_);
    const int64_t blocks = (batch.count + kTrainBlock - 1) / kTrainBlock;
    const int64_t chunks = (blocks + kTrainChunk - 1) / kTrainChunk;
    const FieldView& view = field_.view;
    grow(position_, blocks * 3 * kTrainBlock);
    grow(d_encoded_, blocks * view.n_levels * view.n_features * kTrainBlock);
    grow(partial_, chunks * kNetGradients);
    if (int64_t(loss_.size()) < chunks) loss_.resize(chunks);
    const TrainerBuffers buffers = {view,
                                    field_.nets.data(),
                                    nets_first_.data(),
                                    nets_second_.data(),
                                    nets_gradient_.data(),
                                    field_.table.data(),
                                    table_first_.data(),
                                    table_second_.data(),
                                    table_gradient_.data(),
                                    field_.folded_colour0.data(),
                                    position_.data(),
                                    d_encoded_.data(),
                                    partial_.data(),
                                    loss_.data()};
    if (lr < 0.0f) return table().train(buffers, batch, nullptr, threads);
    ++steps_;
    const double correction =
        std::sqrt(1.0 - std::pow(beta2, steps_)) / (1.0 - std::pow(beta1, steps_));
    const AdamStep adam = {static_cast<float>(lr * correction), beta1, beta2, epsilon};
    return table().train(buffers, batch, &adam, threads);
  }

  void read(bool gradients, F32Out<-1> values, F32Out<-1> nets) {
    Release release;
    const std::lock_guard<std::mutex> lock(running_);
    const auto& from_table = gradients ? table_gradient_ : field_.table;
    const auto& from_nets = gradients ? nets_gradient_ : field_.nets;
    require(values.size() == from_table.size() && nets.size() == from_nets.size(),
            "Trainer.read: sizes differ from the trainer's");
    std::copy(from_table.begin(), from_table.end(), values.data());
    std::copy(from_nets.begin(), from_nets.end(), nets.data());
  }

 private:
  static void grow(std::vector<float>& buffer, int64_t size) {
    if (int64_t(buffer.size()) < size) buffer.resize(size);
  }

  std::mutex running_;
  Field field_;
  std::vector<float> nets_first_, nets_second_, nets_gradient_;
  std::vector<float> table_first_, table_second_, table_gradient_;
  std::vector<float> position_, d_encoded_, partial_;
  std::vector<double> loss_;
  int steps_ = 0;
};

void forward(const Field& field, Points x, Points d, int threads, F32Out<-1> sigma,
             F32Out<-1, 3> rgb) {
  require(rows(d) == rows(x) && rows(sigma) == rows(x) && rows(rgb) == rows(x),
          "Field.forward: lengths differ");
  Release release;
  table().forward(field.view, x.data(), d.data(), rows(x), sigma.data(), rgb.data(), threads);
}

void density(const Field& field, Points x, int threads, F32Out<-1> sigma) {
  require(rows(sigma) == rows(x), "Field.density: lengths differ");
  Release release;
  table().density(field.view, x.data(), rows(x), sigma.data(), threads);
}

double run(Trainer& trainer, Points x, Points d, F32In<-1> sigma, Points rgb, F32In<-1> weight,
           float step_m, float colour_weight, float lr, float beta1, float beta2, float epsilon,
           int threads) {
  const int64_t n = rows(x);
  require(n > 0 && rows(d) == n && rows(sigma) == n && rows(rgb) == n && rows(weight) == n,
          "Trainer.run: lengths differ");
  const TrainBatch batch = {n,          x.data(),      d.data(), sigma.data(),
                            rgb.data(), weight.data(), step_m,   colour_weight};
  Release release;
  return trainer.run(batch, lr, beta1, beta2, epsilon, threads);
}

}  // namespace

void bind_field(nb::module_& m) {
  nb::class_<Field>(m, "Field")
      .def("__init__", &make_field, nb::arg("scales"), nb::arg("resolutions"), nb::arg("sizes"),
           nb::arg("features"), nb::arg("table").noconvert(), nb::arg("nets").noconvert(),
           nb::arg("lo"), nb::arg("hi"), nb::arg("density_scale"))
      .def("forward", &forward, nb::arg("x").noconvert(), nb::arg("d").noconvert(),
           nb::arg("threads"), nb::arg("sigma").noconvert(), nb::arg("rgb").noconvert())
      .def("density", &density, nb::arg("x").noconvert(), nb::arg("threads"),
           nb::arg("sigma").noconvert());
  nb::class_<Trainer>(m, "Trainer")
      .def(nb::init<const Field&>(), nb::arg("initial"))
      .def("run", &run, nb::arg("x").noconvert(), nb::arg("d").noconvert(),
           nb::arg("sigma").noconvert(), nb::arg("rgb").noconvert(), nb::arg("weight").noconvert(),
           nb::arg("step_m"), nb::arg("colour_weight"), nb::arg("lr"), nb::arg("beta1"),
           nb::arg("beta2"), nb::arg("epsilon"), nb::arg("threads"))
      .def("read", &Trainer::read, nb::arg("gradients"), nb::arg("table").noconvert(),
           nb::arg("nets").noconvert());
}

}  // namespace gas_rt
