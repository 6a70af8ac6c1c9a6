// Stands in for cpp_ext/cuda/runtime.cu: one device, whose memory is the host's.
#include "drivers.h"

namespace gas_rt::cuda {

int device_count(int* count) {
  *count = 1;
  return 0;
}

int device_of(const void*, int* device) {
  *device = 0;
  return 0;
}

int current_device(int* device) {
  *device = 0;
  return 0;
}

const char* error_text(int) { return "emulated error"; }

int wait_for(Stream, Stream) { return 0; }

}  // namespace gas_rt::cuda
