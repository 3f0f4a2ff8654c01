// Products over all threads (see product.h): first operands are packed, then tiles are made.
//
// Cores may share no cache, so each should pack what it has: rows of activations lie with the core that made them. A
// product of many small ones (experts) is one task whole. A sum over rows (weight gradients) is packed by blocks of rows,
// both operands at once. Where every panel of b is read once (few rows of a), a task packs some, multiplies them while they
// are in the cache, and goes on to the next. Else b is packed by panels, and each task packs its own rows of a.
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/** k = 0: sums are zero. */
void writeZeros(const Problem& p) {
  if (p.out.accumulate) return;
  for (long i = 0; i < p.m; i += 1)
    memset(p.out.c + i * p.out.stride, 0, static_cast<size_t>(p.n) * 4);
}

/** Chunks of a's rows stay in the second-level cache. */
constexpr long chunkBytes = 256 << 10;
/** Longer sums are made in segments of so many of k, so that both operands' panels stay in the caches. */
constexpr long segment = 8 * depth;
/** Panels of b that are packed and multiplied by turns stay there too, beside what they are packed from. */
constexpr long turnBytes = 128 << 10;
/** Below this many multiply-adds the other threads are not worth waking. */
constexpr double serialWork = 1 << 18;
/** Weight gradients with more of packed a than this pack it a chunk at a time. */
constexpr long packedFirst = 2 << 20;

/** How one product is cut. */
struct Plan {
  /** Tasks and packing units of the products before. */
  long firstTask;
  long firstUnit;
  /** Rows a task, and tasks side by side; 0 rows: the product is one task whole. */
  long rowChunk;
  long colChunks;
  /** Tasks pack b. */
  bool byTurns;
  long panels;
  /** Packed operands; a's is null where tasks pack it. */
  char* packedA;
  char* packedB;
};

double workOf(const Problem& p) {
  return static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
}

/** Most rows a chunk should have. */
long chunkRows(const Problem& p) {
  return maxOf(1, chunkBytes / panelBytes(rowsA, minOf(p.k, segment), p.a.dtype)) * rowsA;
}

/** Rows [first, first + rows) times panels [panel0, panel1); a's panels of all rows are at `packedA`, or not packed yet. */
void runChunk(const Problem& p, const char* packedA, const char* packedB, long first, long rows, long panel0,
              long panel1) {
  const long tiles = ceilDiv(rows, rowsA);
  char* own = packedA != nullptr
                  ? nullptr
                  : static_cast<char*>(scratch(Scratch::packedA, static_cast<size_t>(
                        tiles * panelBytes(rowsA, minOf(p.k, segment), p.a.dtype))));
  // Between segments sums wait tile by tile.
  float* sums = p.k <= segment ? nullptr
                               : static_cast<float*>(scratch(Scratch::sums, static_cast<size_t>(
                                     tiles * (panel1 - panel0) * rowsA * rowsB * 4)));
  const Output out = {p.out.c + first * p.out.stride, p.out.stride, p.out.accumulate};
  for (long k0 = 0; k0 < p.k; k0 += segment) {
    const long k = minOf(segment, p.k - k0);
    Panels a = {own, k, 0};
    if (packedA != nullptr) {
      a = {packedA + first / rowsA * panelBytes(rowsA, p.k, p.a.dtype), p.k, k0 / depth};
    } else {
      packA({own, k, 0}, p.a, first, rows, k0, k);
    }
    multiplyPanels({p.a, a, rows, {packedB, p.k, k0 / depth}, panel0, panel1, k, p.n, out, sums, k0 == 0, k0 + k == p.k});
  }
}

bool packsByRows(const Problem& p) {
  return p.a.transposed && p.b.transposed && ceilDiv(p.m, rowsA) * panelBytes(rowsA, p.k, p.a.dtype) <= packedFirst;
}

/** Whether nobody reads a panel of b twice. */
bool packsByTurns(const Problem& p) { return p.m <= chunkRows(p) && !packsByRows(p); }

/** All rows times panels [panel0, panel1) of b, some packed and multiplied at a time. */
void multiplyByTurns(const Problem& p, long panel0, long panel1) {
  char* packedA = static_cast<char*>(
      scratch(Scratch::packedA, static_cast<size_t>(ceilDiv(p.m, rowsA) * panelBytes(rowsA, p.k, p.a.dtype))));
  packA({packedA, p.k, 0}, p.a, 0, p.m, 0, p.k);
  // Columns stored across memory are read by whole lines.
  const long least = p.b.transposed ? 4 : 1;
  const long panels = minOf(panel1 - panel0, maxOf(least, turnBytes / panelBytes(rowsB, p.k, p.b.dtype)));
  char* packedB = static_cast<char*>(
      scratch(Scratch::ownB, static_cast<size_t>(panels * panelBytes(rowsB, p.k, p.b.dtype))));
  for (long panel = panel0; panel < panel1; panel += panels) {
    const long column = panel * rowsB;
    const long count = minOf(panels, panel1 - panel);
    Problem turn = p;
    turn.n = p.n - column;
    turn.out.c += column;
    packB({packedB, p.k, 0}, p.b, column, minOf(count * rowsB, turn.n), 0, p.k);
    runChunk(turn, packedA, packedB, 0, p.m, 0, count);
  }
}

/** The whole product on the calling thread. */
void multiplyHere(const Problem& p) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    writeZeros(p);
    return;
  }
  const long panels = ceilDiv(p.n, rowsB);
  if (packsByTurns(p)) {
    multiplyByTurns(p, 0, panels);
    return;
  }
  char* packedB = static_cast<char*>(
      scratch(Scratch::ownB, static_cast<size_t>(panels * panelBytes(rowsB, p.k, p.b.dtype))));
  packB({packedB, p.k, 0}, p.b, 0, p.n, 0, p.k);
  const long chunk = chunkRows(p);
  for (long first = 0; first < p.m; first += chunk)
    runChunk(p, nullptr, packedB, first, minOf(chunk, p.m - first), 0, panels);
}

/** Cuts a product for a share of all work so large. */
Plan cut(const Problem& p, double share) {
  Plan plan = {};
  if (p.m == 0 || p.n == 0 || p.k == 0) return plan;
  plan.panels = ceilDiv(p.n, rowsB);
  plan.colChunks = 1;
  if (workOf(p) < share / 4) return plan;
  // About four tasks a thread over all products; where tasks pack rows stored across memory, by whole lines, fewer.
  const bool acrossRows = p.a.transposed && p.b.transposed;
  const bool tasksPackColumns = p.a.transposed && !acrossRows;
  const long parts = maxOf(1, static_cast<long>((tasksPackColumns ? 1 : 4) * workOf(p) / share));
  const long wanted = maxOf(1, ceilDiv(ceilDiv(p.m, rowsA), parts));
  plan.rowChunk = minOf(chunkRows(p), wanted * rowsA);
  const long rowChunks = ceilDiv(p.m, plan.rowChunk);
  plan.colChunks = rowChunks >= parts ? 1 : minOf(plan.panels, ceilDiv(parts, rowChunks));
  plan.byTurns = rowChunks == 1 && packsByTurns(p);
  return plan;
}

/** Packing unit `unit`: a block of both operands, or a panel of b. */
void packUnit(const Problem& p, const Plan& plan, long unit) {
  if (plan.packedA != nullptr) {
    const long k0 = unit * depth;
    const long k = minOf(depth, p.k - k0);
    packA({plan.packedA, p.k, unit}, p.a, 0, p.m, k0, k);
    packB({plan.packedB, p.k, unit}, p.b, 0, p.n, k0, k);
    return;
  }
  const long row = unit * rowsB;
  packB({plan.packedB + unit * panelBytes(rowsB, p.k, p.b.dtype), p.k, 0}, p.b, row, minOf(rowsB, p.n - row), 0, p.k);
}

void runTask(const Problem& p, const Plan& plan, long task) {
  if (plan.rowChunk == 0) {
    multiplyHere(p);
    return;
  }
  const long first = task / plan.colChunks * plan.rowChunk;
  const long rows = minOf(plan.rowChunk, p.m - first);
  const long chunk = ceilDiv(plan.panels, plan.colChunks);
  const long panel0 = task % plan.colChunks * chunk;
  const long panel1 = minOf(plan.panels, panel0 + chunk);
  if (panel0 >= panel1) return;
  if (plan.byTurns) {
    multiplyByTurns(p, panel0, panel1);
    return;
  }
  runChunk(p, plan.packedA, plan.packedB, first, rows, panel0, panel1);
}

}  // namespace

void multiply(const Problem* problems, long count) {
  double work = 0;
  for (long i = 0; i < count; i += 1) work += workOf(problems[i]);
  if (work < serialWork || threads() == 1) {
    for (long i = 0; i < count; i += 1) multiplyHere(problems[i]);
    return;
  }
  Plan* plans = static_cast<Plan*>(scratch(Scratch::plans, static_cast<size_t>(count) * sizeof(Plan)));
  long tasks = 0;
  long units = 0;
  long bytes = 0;
  for (long i = 0; i < count; i += 1) {
    const Problem& p = problems[i];
    Plan& plan = plans[i] = cut(p, work / threads());
    plan.firstTask = tasks;
    plan.firstUnit = units;
    if (plan.panels == 0) {
      if (p.m > 0 && p.n > 0) writeZeros(p);
      continue;
    }
    tasks += plan.rowChunk == 0 ? 1 : ceilDiv(p.m, plan.rowChunk) * plan.colChunks;
    if (plan.rowChunk == 0 || plan.byTurns) continue;
    units += packsByRows(p) ? ceilDiv(p.k, depth) : plan.panels;
    bytes += plan.panels * panelBytes(rowsB, p.k, p.b.dtype);
    if (packsByRows(p)) bytes += ceilDiv(p.m, rowsA) * panelBytes(rowsA, p.k, p.a.dtype);
  }
  char* packed = static_cast<char*>(scratch(Scratch::packedB, static_cast<size_t>(bytes)));
  for (long i = 0; i < count; i += 1) {
    const Problem& p = problems[i];
    if (plans[i].panels == 0 || plans[i].rowChunk == 0 || plans[i].byTurns) continue;
    plans[i].packedB = packed;
    packed += plans[i].panels * panelBytes(rowsB, p.k, p.b.dtype);
    if (!packsByRows(p)) continue;
    plans[i].packedA = packed;
    packed += ceilDiv(p.m, rowsA) * panelBytes(rowsA, p.k, p.a.dtype);
  }
  // The product a task or unit belongs to: the last one that begins at or before it (those without begin where the next
  // does).
  const auto find = [&](long at, long Plan::*first) {
    long low = 0;
    long high = count - 1;
    while (low < high) {
      const long middle = (low + high + 1) / 2;
      if (plans[middle].*first <= at) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  };
  if (units > 0)
    parallelFor(units, [&](long unit) {
      const long i = find(unit, &Plan::firstUnit);
      packUnit(problems[i], plans[i], unit - plans[i].firstUnit);
    });
  parallelFor(tasks, [&](long task) {
    const long i = find(task, &Plan::firstTask);
    runTask(problems[i], plans[i], task - plans[i].firstTask);
  });
}

}  // namespace BALEEN_ISA
}  // namespace baleen
