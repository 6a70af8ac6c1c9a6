// One process-wide pool of sleeping threads, shared by every kernel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace gas_rt {

using IndexFunction = void (*)(void* context, int64_t index);

// Calls function(context, i) once for every i in [0, count), on the caller and at most threads - 1
// pool threads, and returns when all calls have. Which thread runs which index is not defined; a
// result must not depend on it. Idle threads sleep. A call from inside a call runs serially. The
// first exception is rethrown here. After fork() the child starts with an empty pool.
void parallel_for_raw(int64_t count, int threads, IndexFunction function, void* context);

template <typename Function>
void parallel_for(int64_t count, int threads, Function&& function) {
  parallel_for_raw(
      count, threads,
      [](void* context, int64_t index) {
        (*static_cast<std::remove_reference_t<Function>*>(context))(index);
      },
      const_cast<void*>(static_cast<const void*>(&function)));
}

// Splits [0, count) into ranges of `grain` and calls function(begin, end) for each.
template <typename Function>
void parallel_ranges(int64_t count, int64_t grain, int threads, Function&& function) {
  parallel_for((count + grain - 1) / grain, threads, [&](int64_t block) {
    function(block * grain, std::min(count, (block + 1) * grain));
  });
}

}  // namespace gas_rt
