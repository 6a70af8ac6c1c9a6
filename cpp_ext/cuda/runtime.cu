#include "drivers.h"
#include "launch.h"

namespace gas_rt::cuda {

int device_count(int* count) {
  *count = 0;
  return cudaGetDeviceCount(count);
}

int device_of(const void* pointer, int* device) {
  cudaPointerAttributes attributes{};
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  const bool on_device =
      attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  *device = on_device ? attributes.device : -1;
  return error;
}

int current_device(int* device) { return cudaGetDevice(device); }

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int wait_for(Stream producer, Stream stream) {
  cudaEvent_t event;
  cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error != cudaSuccess) return error;
  error = cudaEventRecord(event, static_cast<cudaStream_t>(producer));
  if (error == cudaSuccess) error = cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), event);
  cudaEventDestroy(event);  // its resources are freed once the streams have passed it
  return error;
}

}  // namespace gas_rt::cuda
