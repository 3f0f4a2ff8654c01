// Embedding: rows of a table by id, and the gradient, to the bit as the reference: an id's rows are summed in ascending
// order first, then added to the table.
#include "../elements.h"
#include "kernels.h"

namespace baleen {
namespace BALEEN_ISA {

void embedding(Args args) {
  const View out = args.view();
  const View weight = args.view();
  const View ids = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  if (cols <= 0) return;
  const long vocab = weight.size / cols;
  const size_t width = static_cast<size_t>(cols) * sizeof(float);
  parallelRanges(rows, rowGrain(cols), 1, [&](long begin, long end) {
    for (long r = begin; r < end; r += 1) {
      const long id = ids.i32()[r];
      // Rows whose id lies outside the table become zero.
      if (id >= 0 && id < vocab)
        memcpy(out.f32() + r * cols, weight.f32() + id * cols, width);
      else
        memset(out.f32() + r * cols, 0, width);
    }
  });
}

/** The rows of every id that occurs, one id after the other, each in ascending order. */
struct Occurrences {
  /** Rows by id. */
  int32_t* rows;
  /** Where each id's rows begin, with an end behind the last. */
  int32_t* starts;
  /** How many different ids there are. */
  long count;
};

/** Chains the rows of each id, last row first, then writes the chains out in the order ids were met from the end. */
static Occurrences occurrences(const int32_t* ids, long rows, long vocab) {
  const size_t numbers = static_cast<size_t>(vocab + 4 * rows + 1);
  int32_t* head = static_cast<int32_t*>(scratch(Scratch::first, numbers * sizeof(int32_t)));
  int32_t* next = head + vocab;
  int32_t* met = next + rows;
  Occurrences found = {met + rows, met + 2 * rows, 0};
  for (long id = 0; id < vocab; id += 1) head[id] = -1;
  for (long r = rows - 1; r >= 0; r -= 1) {
    const long id = ids[r];
    // Ids outside the table are passed over.
    if (id < 0 || id >= vocab) continue;
    if (head[id] < 0) met[found.count++] = static_cast<int32_t>(id);
    next[r] = head[id];
    head[id] = static_cast<int32_t>(r);
  }
  int32_t at = 0;
  for (long i = 0; i < found.count; i += 1) {
    found.starts[i] = at;
    for (int32_t r = head[met[i]]; r >= 0; r = next[r]) found.rows[at++] = r;
  }
  found.starts[found.count] = at;
  return found;
}

/** Columns [begin, end) of one id: `Vectors` vectors at a time, so that a row's additions do not wait for each other. */
template <int Vectors, class At>
static inline void addOccurrences(At at, float* target, const float* grad, long cols,
                                  const int32_t* rows, long count) {
  vf sums[Vectors];
  for (int i = 0; i < Vectors; i += 1) sums[i] = set1(0);
  for (long o = 0; o < count; o += 1)
    for (int i = 0; i < Vectors; i += 1)
      sums[i] = add(sums[i], at.load(grad + rows[o] * cols + i * W));
  for (int i = 0; i < Vectors; i += 1)
    at.store(target + i * W, add(at.load(target + i * W), sums[i]));
}

// Columns of a task: frequent ids (a space, a common word) have a large part of all rows, which several threads share by
// columns.
static constexpr long sliceCols = 128;

void embeddingBackward(Args args) {
  const View dweight = args.view();
  const View dout = args.view();
  const View ids = args.view();
  const long rows = args.integer();
  const long cols = args.integer();
  const long vocab = args.integer();
  if (rows <= 0 || cols <= 0) return;
  const Occurrences found = occurrences(ids.i32(), rows, vocab);
  const long slices = ceilDiv(cols, sliceCols);
  // Ids are shared out by where their rows lie, in parts of about equal numbers of rows.
  const long wanted = maxOf(1, minOf(8L * threads(), rows * minOf(cols, sliceCols) / 16384));
  const long partRows = ceilDiv(rows, wanted);
  const long parts = ceilDiv(rows, partRows);
  const auto runTask = [&](long task) {
    const long begin = task / slices * partRows;
    const long end = begin + partRows;
    const long c0 = task % slices * sliceCols;
    const long c1 = minOf(cols, c0 + sliceCols);
    // The first id whose rows begin in this part.
    long low = 0, high = found.count;
    while (low < high) {
      const long middle = (low + high) / 2;
      if (found.starts[middle] < begin)
        low = middle + 1;
      else
        high = middle;
    }
    for (long i = low; i < found.count && found.starts[i] < end; i += 1) {
      const int32_t* own = found.rows + found.starts[i];
      const long count = found.starts[i + 1] - found.starts[i];
      float* target = dweight.f32() + static_cast<long>(ids.i32()[own[0]]) * cols;
      long c = c0;
      for (; c + 4 * W <= c1; c += 4 * W)
        addOccurrences<4>(Whole{}, target + c, dout.f32() + c, cols, own, count);
      for (; c + W <= c1; c += W)
        addOccurrences<1>(Whole{}, target + c, dout.f32() + c, cols, own, count);
      if (c < c1)
        addOccurrences<1>(Part{c1 - c}, target + c, dout.f32() + c, cols, own, count);
    }
  };
  const long tasks = parts * slices;
  const long grain = maxOf(1, 16384 / maxOf(1, rows * cols / tasks));
  parallelRanges(tasks, grain, 1, [&](long begin, long end) {
    for (long task = begin; task < end; task += 1) runTask(task);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
