#include "geometry_drivers.h"

namespace gas_rt::GAS_RT_ISA {

const GeometryTable& geometry_table() {
  static const GeometryTable table = {
      rodrigues_all,
      joint_transforms,
      pose_offsets,
      shape_offsets,
      skin,
      inverse_maps,
      vertex_normals,
      rasterize,
      interpolate,
      sample_texture<float>,
      sample_texture<uint8_t>,
      render_normals,
  };
  return table;
}

}  // namespace gas_rt::GAS_RT_ISA
