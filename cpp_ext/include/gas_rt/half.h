// Half-precision numbers as they are stored: 16 bits in an integer, widened where they are read.
#pragma once

#include <cstdint>
#include <cstring>

#include "gas_rt/host_device.h"

namespace gas_rt {

// What moves a half's exponent, read as a float's, to its place: the biases differ by 112.
constexpr float kHalfScale = 5192296858534827628530496329220096.0f;  // 2^112

// Exact for every finite half; infinity and NaN are not expected.
GAS_RT_HD float half_to_float(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half & 0x7fffu) << 13;
  float magnitude;
  std::memcpy(&magnitude, &bits, sizeof magnitude);
  magnitude *= kHalfScale;
  return (half & 0x8000u) != 0 ? -magnitude : magnitude;
}

}  // namespace gas_rt
