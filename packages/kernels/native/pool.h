// The process's one thread pool, and memory that threads keep for intermediate results.
#pragma once
#include <cstddef>

namespace baleen {

/** Threads in use, the caller's included. */
int threads();
/** Resizes the pool, to fewer threads if the system refuses one: then throws. */
void setThreads(int count);

/**
 * Calls `work(context, task)` for every task in [0, tasks), in no particular order, and returns when all are done.
 * Which thread runs a task must not change its result. What the first task to fail throws is thrown here once no task
 * runs any more; tasks not begun by then are skipped. A call from inside a task, or while another thread of
 * the process uses the pool, runs on the calling thread alone.
 */
void parallel(long tasks, void (*work)(void* context, long task), void* context);

/** The same for anything callable. */
template <class Work>
inline void parallelFor(long tasks, Work&& work) {
  struct Call {
    static void run(void* context, long task) { (*static_cast<Work*>(context))(task); }
  };
  if (tasks == 1) {
    work(0L);
    return;
  }
  parallel(tasks, &Call::run, const_cast<void*>(static_cast<const void*>(&work)));
}

/**
 * Cuts [0, count) into ranges of at least `grain` and calls `work(begin, end)` for each. Ranges begin at multiples of
 * `unit`; where they lie depends on the number of threads, so work on different ranges must be independent.
 */
template <class Work>
inline void parallelRanges(long count, long grain, long unit, Work&& work) {
  if (count <= 0) return;
  long parts = grain > 0 ? count / grain : 1;
  const long most = 4L * threads();
  if (threads() == 1 || parts < 2) {
    work(0L, count);
    return;
  }
  if (parts > most) parts = most;
  long size = (count + parts - 1) / parts;
  size = (size + unit - 1) / unit * unit;
  const long ranges = (count + size - 1) / size;
  parallelFor(ranges, [&](long range) {
    const long begin = range * size;
    const long end = begin + size < count ? begin + size : count;
    work(begin, end);
  });
}

/** Which buffer of a thread: nested users need different ones. */
enum class Scratch : int { packedA, packedB, ownB, sums, plans, first, second, third, fourth, fifth, sixth, count };

/** Memory of the calling thread, 64-byte aligned, at least this big, kept for the next call; contents undefined. */
void* scratch(Scratch which, size_t bytes);

}  // namespace baleen
