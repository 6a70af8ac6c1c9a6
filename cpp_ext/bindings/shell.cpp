#include <nanobind/stl/unique_ptr.h>

#include <memory>

#include "arrays.h"
#include "bindings.h"
#include "gas_rt/shell_table.h"

namespace gas_rt {
namespace {

std::unique_ptr<ShellIndex> build(F32In<-1, 3> vertices, F32In<-1, 3, 4> maps, float radius_m,
                                  int threads) {
  require(rows(vertices) > 0 && rows(maps) == rows(vertices), "Shell: lengths differ or are zero");
  require(radius_m > 0.0f, "Shell: the radius is not positive");
  nb::gil_scoped_release release;
  auto shell = std::make_unique<ShellIndex>();
  GAS_RT_SELECT(shell_table)
      .build_shell(vertices.data(), maps.data(), rows(vertices), radius_m, threads, shell.get());
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
           "threads"_a)
      .def("query", &query, "points"_a.noconvert(), "threads"_a, "vertex_id"_a.noconvert(),
           "canonical"_a.noconvert());
}

}  // namespace gas_rt
