// Large arrays that are made anew for every pose, without giving their memory back in between.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace gas_rt {

// An array of T, not initialised, whose memory is kept for the next one when this one is gone.
// Taken from the heap and given back by another thread each time, megabytes scatter over the heaps
// of all threads, and a process grows for hours.
template <typename T>
class Reused {
 public:
  Reused() = default;
  explicit Reused(size_t n) : memory_(take(n)) {}
  Reused(Reused&& other) noexcept : memory_(std::move(other.memory_)) {}
  Reused& operator=(Reused&& other) noexcept {
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~Reused() {
    if (memory_.data) keep(std::move(memory_));
  }

  T* get() const { return memory_.data.get(); }

 private:
  struct Memory {
    std::unique_ptr<T[]> data;
    size_t size = 0;
  };
  // Of all sizes together: poses that are in flight at once, two arrays each in wide clothes.
  static constexpr size_t kKept = 8;

  struct Shelf {
    Shelf() { kept.reserve(kKept); }
    std::mutex mutex;
    std::vector<Memory> kept;
  };
  // Never destroyed: arrays may outlive it at exit.
  static Shelf& shelf() {
    static Shelf* const shelf = new Shelf;
    return *shelf;
  }

  static Memory take(size_t n) {
    {
      std::lock_guard<std::mutex> lock(shelf().mutex);
      std::vector<Memory>& kept = shelf().kept;
      for (Memory& memory : kept) {
        if (memory.size < n || memory.size / 4 > n) continue;
        std::swap(memory, kept.back());
        Memory found = std::move(kept.back());
        kept.pop_back();
        return found;
      }
    }
    const size_t room = n + n / 8;  // the next pose's may be a little larger
    return {std::unique_ptr<T[]>(new T[room]), room};
  }

  static void keep(Memory memory) {
    std::lock_guard<std::mutex> lock(shelf().mutex);
    std::vector<Memory>& kept = shelf().kept;
    if (kept.size() == kKept) kept.erase(kept.begin());
    kept.push_back(std::move(memory));
  }

  Memory memory_;
};

}  // namespace gas_rt
