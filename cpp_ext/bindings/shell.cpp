#include <nanobind/stl/unique_ptr.h>

#include <memory>
#include <vector>

#include "arrays.h"
#include "bindings.h"
#include "gas_rt/shell_table.h"

namespace gas_rt {
namespace {

std::unique_ptr<ShellIndex> build(F32In<-1, 3> vertices, F32In<-1, 3, 4> maps, float radius_m,
                                  I32In<-1> beyond_ids, float beyond_radius_m, int threads) {
  require(rows(vertices) > 0 && rows(maps) == rows(vertices), "Shell: lengths differ or are zero");
  require(radius_m > 0.0f && beyond_radius_m > 0.0f, "Shell: a radius is not positive");
  const std::vector<int32_t> ids(beyond_ids.data(), beyond_ids.data() + rows(beyond_ids));
  for (int32_t id : ids) {
    require(id >= 0 && id < rows(vertices), "Shell: a vertex that reaches farther is not there");
  }
  nb::gil_scoped_release release;
  const auto make = [&](const float* from, const float* to_canonical, int64_t n, float reach_m) {
    auto shell = std::make_unique<ShellIndex>();
    GAS_RT_SELECT(shell_table).build_shell(from, to_canonical, n, reach_m, threads, shell.get());
    return shell;
  };
  auto shell = make(vertices.data(), maps.data(), rows(vertices), radius_m);
  if (ids.empty()) return shell;
  std::vector<float> farther;
  for (int32_t id : ids) {
    const float* vertex = vertices.data() + 3 * static_cast<int64_t>(id);
    farther.insert(farther.end(), vertex, vertex + 3);
  }
  const int64_t n = static_cast<int64_t>(ids.size());
  shell->reach_beyond(make(farther.data(), nullptr, n, beyond_radius_m), ids);
  return shell;
}

void query(const ShellIndex& shell, F32In<-1, 3> points, int threads, I32Out<-1> vertex_id,
           F32Out<-1, 3> canonical) {
  require(rows(vertex_id) == rows(points) && rows(canonical) == rows(points),
          "Shell.query: lengths differ");
  nb::gil_scoped_release release;
  GAS_RT_SELECT(shell_table)
      .query_shell(shell.view(), points.data(), rows(points), threads, vertex_id.data(),
                   canonical.data());
}

}  // namespace

void bind_shell(nb::module_& m) {
  using namespace nb::literals;
  nb::class_<ShellIndex>(m, "Shell")
      .def(nb::new_(&build), "vertices"_a.noconvert(), "maps"_a.noconvert(), "radius_m"_a,
           "beyond_ids"_a.noconvert(), "beyond_radius_m"_a, "threads"_a)
      .def("query", &query, "points"_a.noconvert(), "threads"_a, "vertex_id"_a.noconvert(),
           "canonical"_a.noconvert());
}

}  // namespace gas_rt
