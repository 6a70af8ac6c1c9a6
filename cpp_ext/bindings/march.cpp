// The march: pictures from a field, samples for the teacher.
#include <nanobind/stl/optional.h>

#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "field.h"
#include "gas_rt/march_table.h"
#include "gas_rt/shell_table.h"

namespace gas_rt {
namespace {

using Release = nb::gil_scoped_release;

const MarchTable& table() { return GAS_RT_SELECT(march_table); }

void march(const ShellIndex& shell, const Field& field, const CameraView& camera,
           std::optional<Array<const uint8_t, nb::ndim<1>>> occupancy, int resolution, int samples,
           float early_stop, int threads, F32Out<-1, -1, 3> rgb, F32Out<-1, -1> alpha) {
  require(rows(rgb) == camera.height && rows(alpha) == camera.height &&
              int64_t(rgb.shape(1)) == camera.width && int64_t(alpha.shape(1)) == camera.width,
          "march: pictures differ from the camera's size");
  OccupancyView view = {nullptr, 1};
  if (occupancy) {
    require(resolution >= 1 && resolution <= 1024, "march: bad occupancy resolution");
    const int64_t cells = int64_t(resolution) * resolution * resolution;
    require(int64_t(occupancy->size()) == (cells + 7) / 8, "march: bad occupancy size");
    view = {occupancy->data(), resolution};
  }
  require(samples >= 2, "march: too few samples");
  const MarchSettings settings = {samples, early_stop, threads};
  Release release;
  table().render(shell.view(), field.view, camera, view, settings, rgb.data(), alpha.data());
}

// Found in two passes, so that the arrays have their exact length.
class SampleList {
 public:
  SampleList(const ShellIndex& shell, const CameraView& camera, std::optional<I32In<-1, 2>> pixels,
             int samples, int threads)
      : camera_(camera), settings_{samples, 0.0f, threads} {
    require(samples >= 2, "SampleList: too few samples");
    if (pixels) {
      has_pixels_ = true;
      pixels_.assign(pixels->data(), pixels->data() + pixels->size());
    }
    const int64_t rays =
        has_pixels_ ? int64_t(pixels_.size() / 2) : int64_t(camera.width) * camera.height;
    Release release;
    // Not zeroed: most rays miss, and theirs are never read.
    ids_.reset(new int32_t[rays * samples]);
    std::vector<int32_t> counts(rays);
    table().find_samples(shell.view(), camera, pixels_or_null(), rays, settings_, ids_.get(),
                         counts.data());
    offsets_.assign(rays + 1, 0);
    std::partial_sum(counts.begin(), counts.end(), offsets_.begin() + 1, std::plus<int64_t>());
  }

  int64_t count() const { return offsets_.back(); }
  int64_t rays() const { return int64_t(offsets_.size()) - 1; }

  void fill(const ShellIndex& shell, Array<int64_t, nb::ndim<1>> offsets, I32Out<-1> ray,
            F32Out<-1> delta, F32Out<-1, 3> canonical, F32Out<-1, 3> direction,
            I32Out<-1> vertex_id) const {
    require(rows(offsets) == rays() + 1 && rows(ray) == count() && rows(delta) == count() &&
                rows(canonical) == count() && rows(direction) == count() &&
                rows(vertex_id) == count(),
            "SampleList.fill: lengths differ");
    const SampleOutputs out = {ray.data(), delta.data(), canonical.data(), direction.data(),
                               vertex_id.data()};
    Release release;
    std::copy(offsets_.begin(), offsets_.end(), offsets.data());
    table().fill_samples(shell.view(), camera_, pixels_or_null(), rays(), settings_, ids_.get(),
                         offsets_.data(), out);
  }

 private:
  const int32_t* pixels_or_null() const { return has_pixels_ ? pixels_.data() : nullptr; }

  CameraView camera_;
  MarchSettings settings_;
  bool has_pixels_ = false;
  std::vector<int32_t> pixels_;
  std::unique_ptr<int32_t[]> ids_;  // [rays, samples]
  std::vector<int64_t> offsets_;    // [rays + 1]
};

void composite(Array<const int64_t, nb::ndim<1>> offsets, F32In<-1> delta, F32In<-1> sigma,
               F32In<-1, 3> colour, int threads, F32Out<-1, 3> rgb, F32Out<-1> alpha) {
  const int64_t n = rows(delta), rays = rows(alpha);
  require(rows(sigma) == n && rows(colour) == n && rows(rgb) == rays && rows(offsets) == rays + 1,
          "composite: lengths differ");
  for (int64_t i = 0; i < rays; ++i)
    require(offsets.data()[i] >= 0 && offsets.data()[i] <= offsets.data()[i + 1] &&
                offsets.data()[i + 1] <= n,
            "composite: bad offsets");
  Release release;
  table().composite(offsets.data(), rays, delta.data(), sigma.data(), colour.data(), threads,
                    rgb.data(), alpha.data());
}

void upsample(F32In<-1, -1, -1> picture, int threads, F32Out<-1, -1, -1> out) {
  require((out.shape(0) + 1) / 2 == picture.shape(0) &&
              (out.shape(1) + 1) / 2 == picture.shape(1) && out.shape(2) == picture.shape(2),
          "upsample: sizes differ");
  Release release;
  table().upsample(picture.data(), rows(out), int64_t(out.shape(1)), int64_t(out.shape(2)), threads,
                   out.data());
}

}  // namespace

void bind_march(nb::module_& m) {
  m.def("march", &march, nb::arg("shell"), nb::arg("field"), nb::arg("camera"),
        nb::arg("occupancy").none(), nb::arg("resolution"), nb::arg("samples"),
        nb::arg("early_stop"), nb::arg("threads"), nb::arg("rgb").noconvert(),
        nb::arg("alpha").noconvert());
  m.def("composite", &composite, nb::arg("offsets").noconvert(), nb::arg("delta").noconvert(),
        nb::arg("sigma").noconvert(), nb::arg("colour").noconvert(), nb::arg("threads"),
        nb::arg("rgb").noconvert(), nb::arg("alpha").noconvert());
  m.def("upsample", &upsample, nb::arg("picture").noconvert(), nb::arg("threads"),
        nb::arg("out").noconvert());
  nb::class_<SampleList>(m, "SampleList")
      .def(nb::init<const ShellIndex&, const CameraView&, std::optional<I32In<-1, 2>>, int, int>(),
           nb::arg("shell"), nb::arg("camera"), nb::arg("pixels").none(), nb::arg("samples"),
           nb::arg("threads"))
      .def_prop_ro("count", &SampleList::count)
      .def("fill", &SampleList::fill, nb::arg("shell"), nb::arg("offsets").noconvert(),
           nb::arg("ray").noconvert(), nb::arg("delta").noconvert(),
           nb::arg("canonical").noconvert(), nb::arg("direction").noconvert(),
           nb::arg("vertex_id").noconvert());
}

}  // namespace gas_rt
