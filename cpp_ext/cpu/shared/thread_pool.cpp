#include "gas_rt/thread_pool.h"

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace gas_rt {
namespace {

struct Job {
  IndexFunction function;
  void* context;
  int64_t count;
  std::atomic<int64_t> next{0};
  int helpers_wanted;  // guarded by the pool's mutex, like the fields below
  int helpers_inside = 0;
  std::exception_ptr error;
  std::condition_variable done;
};

thread_local bool inside_job = false;

// Runs indices until none is left; returns the exception that ended it early, if any.
std::exception_ptr drain(Job& job) {
  inside_job = true;
  std::exception_ptr error;
  try {
    for (int64_t i; (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.count;) {
      job.function(job.context, i);
    }
  } catch (...) {
    error = std::current_exception();
    job.next.store(job.count, std::memory_order_relaxed);
  }
  inside_job = false;
  return error;
}

// Keeps the pool's threads off the core of whoever calls. Left alone, Linux wakes them there when
// no other core looks idle, and in a virtual machine one that has halted never does; such a thread
// gets its turn milliseconds later, when the caller has done all of a short job alone.
class Placement {
 public:
#if defined(__linux__)
  void add(std::thread::native_handle_type worker) {
    // Which it has from the thread that makes it.
    if (workers_.empty()) {
      usable_ = pthread_getaffinity_np(pthread_self(), sizeof allowed_, &allowed_) == 0 &&
                CPU_COUNT(&allowed_) > 1;
    }
    workers_.push_back(worker);
    avoided_ = -1;
  }

  void avoid_callers_core() {
    const int core = sched_getcpu();
    if (!usable_ || core < 0 || core == avoided_) return;
    cpu_set_t others = allowed_;
    CPU_CLR(core, &others);
    // Where this is not permitted they stay where they are: slower, not wrong.
    for (pthread_t worker : workers_) pthread_setaffinity_np(worker, sizeof others, &others);
    avoided_ = core;
  }

 private:
  cpu_set_t allowed_;
  bool usable_ = false;
  int avoided_ = -1;
  std::vector<pthread_t> workers_;
#else
  void add(std::thread::native_handle_type) {}
  void avoid_callers_core() {}
#endif
};

class Pool {
 public:
  void run(Job& job) {
    const bool one_helper = job.helpers_wanted == 1;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (workers_ < job.helpers_wanted) {
        std::thread worker(&Pool::work, this);
        const std::thread::native_handle_type handle = worker.native_handle();
        worker.detach();
        ++workers_;
        placement_.add(handle);
      }
      // Moving one that runs would stop it.
      if (busy_ == 0) placement_.avoid_callers_core();
      jobs_.push_back(&job);
    }
    if (one_helper) {
      wake_.notify_one();
    } else {
      wake_.notify_all();
    }
    std::exception_ptr error = drain(job);
    std::unique_lock<std::mutex> lock(mutex_);
    jobs_.erase(std::remove(jobs_.begin(), jobs_.end(), &job), jobs_.end());
    job.done.wait(lock, [&] { return job.helpers_inside == 0; });
    if (!error) error = job.error;
    if (error) std::rethrow_exception(error);
  }

 private:
  void work() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      ++job.helpers_inside;
      ++busy_;
      if (--job.helpers_wanted == 0) jobs_.pop_front();
      lock.unlock();
      std::exception_ptr error = drain(job);
      lock.lock();
      --busy_;
      if (error && !job.error) job.error = error;
      // Notified under the lock: the job lives on its caller's stack and is gone once it wakes.
      if (--job.helpers_inside == 0) job.done.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> jobs_;
  int workers_ = 0;
  int busy_ = 0;
  Placement placement_;
};

std::atomic<Pool*> pool{nullptr};

// The pool is never destroyed: its threads sleep in it until the process ends, and joining them
// from a static destructor can deadlock. A forked child has none of the threads, so it drops the
// inherited pool, whose mutex may be held for ever, and makes another on first use.
void forget_pool() {
  pool.store(nullptr);
  inside_job = false;
}

Pool& the_pool() {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, forget_pool); });
  Pool* current = pool.load();
  if (current == nullptr) {
    Pool* fresh = new Pool;
    if (pool.compare_exchange_strong(current, fresh)) return *fresh;
    delete fresh;
  }
  return *current;
}

}  // namespace

void parallel_for_raw(int64_t count, int threads, IndexFunction function, void* context) {
  const int64_t helpers = std::min<int64_t>(threads, count) - 1;
  if (helpers <= 0 || inside_job) {
    for (int64_t i = 0; i < count; ++i) function(context, i);
    return;
  }
  Job job;
  job.function = function;
  job.context = context;
  job.count = count;
  job.helpers_wanted = static_cast<int>(helpers);
  the_pool().run(job);
}

}  // namespace gas_rt
