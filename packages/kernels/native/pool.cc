// See pool.h. Workers spin for a moment between calls, then sleep; one that wakes late finds the call closed and does
// not hold it up.
#include "pool.h"

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define BALEEN_PAUSE() _mm_pause()
#elif defined(__aarch64__)
#define BALEEN_PAUSE() asm volatile("yield")
#else
#define BALEEN_PAUSE() ((void)0)
#endif

namespace baleen {
namespace {

// One word says which call is open and how many workers joined it: call number, a closed bit, joined workers.
constexpr uint64_t closedBit = 1ull << 31;
constexpr uint64_t joinedMask = closedBit - 1;
constexpr int spins = 4000;
/** As many as `setThreads` of src/native/index.ts lets through. */
constexpr int maxThreads = 256;

thread_local bool inside = false;
std::atomic<int> threadCount{1};

struct Pool {
  alignas(64) std::atomic<uint64_t> word{closedBit};
  alignas(64) std::atomic<uint64_t> finished{0};
  /** A thread's own share of the tasks: neighbours, so that kernels in a row find a row's data in one core's cache. */
  struct alignas(64) Share {
    std::atomic<long> next{0};
    long end = 0;
  };
  Share shares[maxThreads];
  void (*work)(void*, long) = nullptr;
  void* context = nullptr;
  /** Whether a task of this call threw; if so tasks not yet begun are skipped, and what the first one threw. */
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  std::mutex busy;

  void attempt(long task) noexcept {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      work(context, task);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }

  /** Runs the thread's own share, then what others have left. */
  void drain(int thread) {
    const int count = threads();
    for (int i = 0; i < count; i += 1) {
      Share& share = shares[(thread + i) % count];
      for (long task = share.next.fetch_add(1); task < share.end; task = share.next.fetch_add(1)) attempt(task);
    }
  }

  void loop(int thread, uint64_t seen) {
    inside = true;
    for (;;) {
      uint64_t now = word.load(std::memory_order_acquire);
      for (int i = 0; i < spins && (now >> 32) == seen; i += 1) {
        BALEEN_PAUSE();
        now = word.load(std::memory_order_acquire);
      }
      while ((now >> 32) == seen) {
        word.wait(now);
        now = word.load(std::memory_order_acquire);
      }
      if (stop.load()) return;
      seen = now >> 32;
      bool joined = false;
      while (!(now & closedBit) && (now >> 32) == seen) {
        if (word.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) {
          joined = true;
          break;
        }
      }
      if (!joined) continue;
      drain(thread);
      finished.fetch_add(1, std::memory_order_release);
    }
  }

  void run(long tasks, void (*f)(void*, long), void* c) {
    work = f;
    context = c;
    failed.store(false);
    const int count = threads();
    for (int i = 0; i < count; i += 1) {
      shares[i].next.store(tasks * i / count);
      shares[i].end = tasks * (i + 1) / count;
    }
    finished.store(0);
    const uint64_t call = (word.load() >> 32) + 1;
    word.store(call << 32, std::memory_order_release);
    word.notify_all();
    drain(0);
    const uint64_t joined = word.fetch_or(closedBit) & joinedMask;
    for (int i = 0; finished.load(std::memory_order_acquire) < joined; i += 1) {
      if (i < spins) {
        BALEEN_PAUSE();
      } else {
        std::this_thread::yield();
      }
    }
    if (failed.load()) std::rethrow_exception(std::exchange(failure, nullptr));
  }

  /** Throws where the system refuses a thread: those that were started then are the pool. */
  void resize(int size) {
    stop.store(true);
    word.store((((word.load() >> 32) + 1) << 32) | closedBit);
    word.notify_all();
    for (auto& worker : workers) worker.join();
    workers.clear();
    threadCount.store(1);
    stop.store(false);
    // What a worker has seen is settled here: one that starts late must not take the next resize for a thing of the past.
    const uint64_t seen = word.load() >> 32;
    workers.reserve(static_cast<size_t>(size - 1));
    for (int i = 1; i < size; i += 1) {
      workers.emplace_back([this, i, seen] { loop(i, seen); });
      threadCount.store(i + 1);
    }
  }
};

// Never destroyed: workers may still look at it while the process ends.
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;
  ~Buffer() { release(); }
  void release() {
    if (data != nullptr) ::operator delete(data, std::align_val_t(64));
    data = nullptr;
    bytes = 0;
  }
};
thread_local Buffer buffers[static_cast<int>(Scratch::count)];

}  // namespace

int threads() { return threadCount.load(std::memory_order_relaxed); }

void setThreads(int count) {
  std::lock_guard<std::mutex> lock(pool().busy);
  if (count != threads()) pool().resize(count);
}

void parallel(long tasks, void (*work)(void*, long), void* context) {
  if (tasks <= 0) return;
  Pool& p = pool();
  std::unique_lock<std::mutex> lock(p.busy, std::defer_lock);
  if (tasks == 1 || inside || threads() == 1 || !lock.try_lock()) {
    for (long task = 0; task < tasks; task += 1) work(context, task);
    return;
  }
  const struct Inside {
    Inside() { inside = true; }
    ~Inside() { inside = false; }
  } now;
  p.run(tasks, work, context);
}

void* scratch(Scratch which, size_t bytes) {
  Buffer& buffer = buffers[static_cast<int>(which)];
  if (buffer.bytes < bytes) {
    buffer.release();
    const size_t whole = (bytes + 4095) / 4096 * 4096;
    buffer.data = ::operator new(whole, std::align_val_t(64));
    buffer.bytes = whole;
  }
  return buffer.data;
}

}  // namespace baleen
