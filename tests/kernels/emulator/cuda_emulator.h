// Enough of CUDA C++ to run the kernels of cpp_ext/cuda on the CPU, thread by thread.
//
// A block's threads are fibers of one OS thread: each runs until it meets a barrier or ends, then
// the next has its turn. Blocks run one after the other. So results are those of one valid order
// of execution; races and the memory model are for compute-sanitizer on a GPU.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulator {

constexpr size_t kStackBytes = 96 * 1024;
constexpr int kMaxThreads = 1024;
constexpr int kWarp = 32;
constexpr size_t kSharedBytes = 48 * 1024;  // a block gets no more without asking

enum class State { ready, at_warp, at_block, done };

// Fibers live as long as the process: each runs its thread of one block after the other. They are
// switched by jumps, since swapcontext makes a system call.
struct Fiber {
  jmp_buf at;
  std::unique_ptr<char[]> stack;  // null until the fiber runs for the first time
  State state;
};

struct Machine {
  dim3 thread, block, block_size, grid;
  alignas(16) unsigned char shared[kSharedBytes];
  std::vector<Fiber> fibers{kMaxThreads};
  jmp_buf scheduler;
  int current = 0, n_threads = 0;
  std::function<void()> kernel;
  uint32_t exchanged[kMaxThreads];  // what the threads of a warp show each other
  std::mutex running;
};

inline Machine& machine() {
  static Machine one;
  return one;
}

__attribute__((noinline)) inline void leave() {
  Machine& m = machine();
  if (_setjmp(m.fibers[m.current].at) == 0) _longjmp(m.scheduler, 1);
}

inline void wait(State state) {
  Machine& m = machine();
  m.fibers[m.current].state = state;
  leave();
}

inline void fiber_main() {
  Machine& m = machine();
  while (true) {
    m.kernel();
    m.fibers[m.current].state = State::done;
    leave();
  }
}

__attribute__((noinline)) inline void first_run(Fiber& fiber) {
  ucontext_t context;
  getcontext(&context);
  fiber.stack.reset(new char[kStackBytes]);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  setcontext(&context);
}

// Runs a thread until its next barrier or its end.
__attribute__((noinline)) inline void resume(int i) {
  Machine& m = machine();
  m.current = i;
  m.thread = dim3(static_cast<unsigned>(i), 0, 0);
  if (_setjmp(m.scheduler) != 0) return;
  if (m.fibers[i].stack == nullptr) first_run(m.fibers[i]);
  _longjmp(m.fibers[i].at, 1);
}

// Lets every thread in [begin, end) that waits in `from` go on; whether there was one.
inline bool release(int begin, int end, State from) {
  bool any = false;
  for (int i = begin; i < end; ++i) {
    Fiber& fiber = machine().fibers[i];
    if (fiber.state == from) fiber.state = State::ready, any = true;
  }
  return any;
}

inline void run_block() {
  Machine& m = machine();
  std::memset(m.shared, 0xff, sizeof m.shared);  // NaN: nothing may be read before it is written
  for (int i = 0; i < m.n_threads; ++i) m.fibers[i].state = State::ready;
  while (true) {
    for (int i = 0; i < m.n_threads; ++i) {
      if (m.fibers[i].state == State::ready) resume(i);
    }
    bool again = false;
    for (int warp = 0; warp < m.n_threads; warp += kWarp) {
      const int end = std::min(warp + kWarp, m.n_threads);
      bool at_warp = false, at_block = false;
      for (int i = warp; i < end; ++i) {
        at_warp |= m.fibers[i].state == State::at_warp;
        at_block |= m.fibers[i].state == State::at_block;
      }
      if (at_warp && at_block) std::abort();  // threads of a warp at different barriers
      again |= release(warp, end, State::at_warp);
    }
    if (!again && !release(0, m.n_threads, State::at_block)) return;
  }
}

inline void run(dim3 grid, int threads, std::function<void()> kernel) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> lock(m.running);
  m.grid = grid, m.block_size = dim3(static_cast<unsigned>(threads)), m.n_threads = threads;
  m.kernel = std::move(kernel);
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      m.block = dim3(x, y, 0);
      run_block();
    }
  }
}

template <typename T>
T exchange(T value, int lane) {
  static_assert(sizeof(T) == 4, "as the hardware's");
  Machine& m = machine();
  std::memcpy(&m.exchanged[m.current], &value, 4);
  wait(State::at_warp);
  T other;
  std::memcpy(&other, &m.exchanged[m.current / kWarp * kWarp + lane], 4);
  wait(State::at_warp);
  return other;
}

}  // namespace emulator

#define threadIdx (emulator::machine().thread)
#define blockIdx (emulator::machine().block)
#define blockDim (emulator::machine().block_size)
#define gridDim (emulator::machine().grid)
#define GAS_RT_DYNAMIC_SHARED(name) unsigned char* const name = emulator::machine().shared

inline void __syncthreads() { emulator::wait(emulator::State::at_block); }
inline void __syncwarp() { emulator::wait(emulator::State::at_warp); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  return emulator::exchange(value, (emulator::machine().current % emulator::kWarp) ^ mask);
}

inline bool __any_sync(unsigned, bool value) {
  int any = value;
  for (int mask = emulator::kWarp / 2; mask > 0; mask /= 2) {
    any |= emulator::exchange(any, (emulator::machine().current % emulator::kWarp) ^ mask);
  }
  return any != 0;
}

template <typename T, typename V>
T atomicAdd(T* at, V value) {
  const T before = *at;
  *at += static_cast<T>(value);
  return before;
}

template <typename T, typename V>
T atomicOr(T* at, V value) {
  const T before = *at;
  *at |= static_cast<T>(value);
  return before;
}

template <typename T>
T atomicMin(T* at, T value) {
  const T before = *at;
  *at = std::min(before, value);
  return before;
}

template <typename T>
T atomicMax(T* at, T value) {
  const T before = *at;
  *at = std::max(before, value);
  return before;
}

using std::max;
using std::memcpy;
using std::min;

namespace gas_rt::cuda {

template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, void*,
           Arguments... arguments) {
  constexpr int kInvalidConfiguration = 9;
  if (grid.x == 0 || grid.y == 0) return 0;
  if (threads > emulator::kMaxThreads || shared_bytes > emulator::kSharedBytes || grid.y > 65535) {
    return kInvalidConfiguration;
  }
  emulator::run(grid, threads, [&] { kernel(Parameters(arguments)...); });
  return 0;
}

}  // namespace gas_rt::cuda
