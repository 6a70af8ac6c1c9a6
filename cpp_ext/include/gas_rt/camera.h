// A pinhole camera, OpenCV convention: x_cam = R x + t, pixel centres at +0.5.
#pragma once

#include <cstdint>

#include "gas_rt/vec.h"

namespace gas_rt {

struct CameraView {
  float fx, fy, cx, cy;   // pixels
  float rotation[9];      // world to camera, row-major
  float translation[3];   // metres
  int32_t width, height;  // pixels
};

// In double and rounded once: a long lens stands 35 m away, where float has 4 micrometres.
GAS_RT_HD Vec3f world_to_camera(const CameraView& camera, Vec3f p) {
  const Vec3d v = rotate(camera.rotation, to_double(p)) + to_double(load3(camera.translation));
  return {static_cast<float>(v.x), static_cast<float>(v.y), static_cast<float>(v.z)};
}

}  // namespace gas_rt
