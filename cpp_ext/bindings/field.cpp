// The hash-grid field: parameters, evaluation, training. Shapes are checked by the Python face.
#include "field.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>

#include "bindings.h"

namespace nb = nanobind;

namespace gas_rt {

void Field::bind_pointers() {
  const NetSizes sizes(view.n_padded);
  view.table = table.data();
  view.density0 = nets.data();
  view.density1 = view.density0 + sizes.density0;
  view.colour0 = folded_colour0.data();
  view.colour1 = nets.data() + sizes.density0 + sizes.density1 + sizes.colour0;
}

namespace {

using Array = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

std::vector<float> copied(const Array& a) { return {a.data(), a.data() + a.size()}; }

struct Grid {
  std::vector<float> scales;
  std::vector<int64_t> resolutions, sizes;
  int features;
};

// nets: density net then colour net, as stored.
std::unique_ptr<Field> make_field(const Grid& grid, const Array& table, const Array& nets,
                                  const std::vector<float>& lo, const std::vector<float>& hi,
                                  float density_scale) {
  auto field = std::make_unique<Field>();
  FieldView& view = field->view;
  view.n_levels = static_cast<int>(grid.scales.size());
  view.n_features = grid.features;
  view.n_padded = (view.n_levels * grid.features + 15) / 16 * 16;
  uint64_t offset = 0;
  for (int l = 0; l < view.n_levels; ++l) {
    const uint64_t r = grid.resolutions[l], size = grid.sizes[l];
    view.levels[l] = {grid.scales[l], static_cast<uint32_t>(r), static_cast<uint32_t>(size),
                      r * r * r > size, offset};
    offset += size;
  }
  for (int d = 0; d < 3; ++d) {
    view.lo[d] = lo[d];
    view.inverse_extent[d] = 1.0f / (hi[d] - lo[d]);
  }
  view.density_scale = density_scale;
  const NetSizes sizes(view.n_padded);
  if (table.size() != offset * grid.features || int64_t(nets.size()) != sizes.total)
    throw nb::value_error("Field: sizes of table or nets differ from the grid's");
  field->table = copied(table);
  field->nets = copied(nets);
  field->folded_colour0.resize(kHidden * kColourIn);
  fold_colour0(field->nets.data() + sizes.density0 + sizes.density1, field->folded_colour0.data());
  field->bind_pointers();
  return field;
}

class Trainer {
 public:
  explicit Trainer(const Field& initial) : field_(initial) {
    field_.bind_pointers();
    for (auto* moments : {&nets_first_, &nets_second_, &nets_gradient_})
      moments->assign(field_.nets.size(), 0.0f);
    for (auto* moments : {&table_first_, &table_second_, &table_gradient_})
      moments->assign(field_.table.size(), 0.0f);
  }

  double run(const TrainBatch& batch, float lr, float beta1, float beta2, float epsilon,
             int threads) {
    const int64_t blocks = (batch.count + kTrainBlock - 1) / kTrainBlock;
    const int64_t chunks = (blocks + kTrainChunk - 1) / kTrainChunk;
    const FieldView& view = field_.view;
    grow(position_, blocks * 3 * kTrainBlock);
    grow(d_encoded_, blocks * view.n_levels * view.n_features * kTrainBlock);
    grow(partial_, chunks * kNetGradients);
    if (int64_t(loss_.size()) < chunks) loss_.resize(chunks);
    const TrainerBuffers buffers = {
        view, field_.nets.data(), nets_first_.data(), nets_second_.data(), nets_gradient_.data(),
        field_.table.data(), table_first_.data(), table_second_.data(), table_gradient_.data(),
        field_.folded_colour0.data(), position_.data(), d_encoded_.data(), partial_.data(),
        loss_.data()};
    const FieldTable& drivers = GAS_RT_SELECT(field_table);
    if (lr < 0.0f) return drivers.train(buffers, batch, nullptr, threads);
    ++steps_;
    const double correction = std::sqrt(1.0 - std::pow(beta2, steps_)) / (1.0 - std::pow(beta1, steps_));
    const AdamStep adam = {static_cast<float>(lr * correction), beta1, beta2, epsilon};
    return drivers.train(buffers, batch, &adam, threads);
  }

  void read(Output table, Output nets, bool gradients) const {
    const auto& from_table = gradients ? table_gradient_ : field_.table;
    const auto& from_nets = gradients ? nets_gradient_ : field_.nets;
    if (table.size() != from_table.size() || nets.size() != from_nets.size())
      throw nb::value_error("Trainer.read: sizes of table or nets differ from the trainer's");
    std::copy(from_table.begin(), from_table.end(), table.data());
    std::copy(from_nets.begin(), from_nets.end(), nets.data());
  }

 private:
  static void grow(std::vector<float>& buffer, int64_t size) {
    if (int64_t(buffer.size()) < size) buffer.resize(size);
  }

  Field field_;
  std::vector<float> nets_first_, nets_second_, nets_gradient_;
  std::vector<float> table_first_, table_second_, table_gradient_;
  std::vector<float> position_, d_encoded_, partial_;
  std::vector<double> loss_;
  int steps_ = 0;
};

}  // namespace

void bind_field(nb::module_& m) {
  nb::class_<Field>(m, "Field")
      .def(
          "__init__",
          [](Field* self, std::vector<float> scales, std::vector<int64_t> resolutions,
             std::vector<int64_t> sizes, int features, Array table, Array nets,
             std::vector<float> lo, std::vector<float> hi, float density_scale) {
            const Grid grid = {std::move(scales), std::move(resolutions), std::move(sizes), features};
            new (self) Field(*make_field(grid, table, nets, lo, hi, density_scale));
            self->bind_pointers();
          },
          nb::arg("scales"), nb::arg("resolutions"), nb::arg("sizes"), nb::arg("features"),
          nb::arg("table"), nb::arg("nets"), nb::arg("lo"), nb::arg("hi"), nb::arg("density_scale"))
      .def(
          "forward",
          [](const Field& self, Array x, Array d, Output sigma, Output rgb, int threads) {
            const auto count = static_cast<int64_t>(sigma.size());
            nb::gil_scoped_release release;
            GAS_RT_SELECT(field_table)
                .forward(self.view, x.data(), d.data(), count, sigma.data(), rgb.data(), threads);
          },
          nb::arg("x"), nb::arg("d"), nb::arg("sigma"), nb::arg("rgb"), nb::arg("threads"))
      .def(
          "density",
          [](const Field& self, Array x, Output sigma, int threads) {
            const auto count = static_cast<int64_t>(sigma.size());
            nb::gil_scoped_release release;
            GAS_RT_SELECT(field_table).density(self.view, x.data(), count, sigma.data(), threads);
          },
          nb::arg("x"), nb::arg("sigma"), nb::arg("threads"));

  nb::class_<Trainer>(m, "Trainer")
      .def(nb::init<const Field&>(), nb::arg("initial"))
      .def(
          "run",
          [](Trainer& self, Array x, Array d, Array sigma, Array rgb, Array weight, float step_m,
             float colour_weight, float lr, float beta1, float beta2, float epsilon, int threads) {
            const TrainBatch batch = {static_cast<int64_t>(sigma.size()), x.data(), d.data(),
                                      sigma.data(), rgb.data(), weight.data(), step_m,
                                      colour_weight};
            nb::gil_scoped_release release;
            return self.run(batch, lr, beta1, beta2, epsilon, threads);
          },
          nb::arg("x"), nb::arg("d"), nb::arg("sigma"), nb::arg("rgb"), nb::arg("weight"),
          nb::arg("step_m"), nb::arg("colour_weight"), nb::arg("lr"), nb::arg("beta1"),
          nb::arg("beta2"), nb::arg("epsilon"), nb::arg("threads"))
      .def("read", &Trainer::read, nb::arg("table"), nb::arg("nets"), nb::arg("gradients"));
}

}  // namespace gas_rt
