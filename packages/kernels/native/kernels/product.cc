// Products of packed panels, and their distribution over threads (see product.h).
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/**
 * One block of k of one tile: R rows of a times two vectors of b's columns, summed in ascending k from zero, then
 * sum = fl(sum + fl(acc · fl(scaleA · scaleB))), or without scales fl(sum + acc). `ByRow` says how a's block lies: row
 * after row, or k after k.
 */
template <int R, bool Pairs, bool ByRow>
void tileBlock(const float* a, const float* b, long steps, float* sum, long stride, bool add_,
               const float* scaleA, const float* scaleB) {
  constexpr long aRow = ByRow ? (Pairs ? depth / 2 : depth) : 1;
  constexpr long aStep = ByRow ? 1 : rowsA;
  vf acc[R][2];
#pragma GCC unroll 16
  for (int i = 0; i < R; i += 1) acc[i][0] = acc[i][1] = set1(0);
  for (long step = 0; step < steps; step += 1) {
    const vf b0 = load(b);
    const vf b1 = load(b + W);
    b += rowsB;
#pragma GCC unroll 16
    for (int i = 0; i < R; i += 1) {
      const vf x = set1(a[i * aRow]);
#if defined(BALEEN_AVX512BF16)
      if constexpr (Pairs) {
        acc[i][0] = _mm512_dpbf16_ps(acc[i][0], (__m512bh)x, (__m512bh)b0);
        acc[i][1] = _mm512_dpbf16_ps(acc[i][1], (__m512bh)x, (__m512bh)b1);
        continue;
      }
#endif
      acc[i][0] = fma(x, b0, acc[i][0]);
      acc[i][1] = fma(x, b1, acc[i][1]);
    }
    a += aStep;
  }
  if (scaleA != nullptr) {
    const vf s0 = load(scaleB);
    const vf s1 = load(scaleB + W);
#pragma GCC unroll 16
    for (int i = 0; i < R; i += 1) {
      const vf s = set1(scaleA[i]);
      acc[i][0] = mul(acc[i][0], mul(s, s0));
      acc[i][1] = mul(acc[i][1], mul(s, s1));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; i += 1) {
    float* at = sum + i * stride;
    store(at, add_ ? add(load(at), acc[i][0]) : acc[i][0]);
    store(at + W, add_ ? add(load(at + W), acc[i][1]) : acc[i][1]);
  }
}

using TileBlock = void (*)(const float*, const float*, long, float*, long, bool, const float*, const float*);

template <int R>
TileBlock chooseLayout(bool usePairs, bool byRow) {
#if defined(BALEEN_AVX512BF16)
  if (usePairs) return byRow ? &tileBlock<R, true, true> : &tileBlock<R, true, false>;
#else
  (void)usePairs;
#endif
  return byRow ? &tileBlock<R, false, true> : &tileBlock<R, false, false>;
}

/** The fewest rows that hold `rows`: a panel's last rows need not cost a whole panel. */
TileBlock choose(long rows, bool usePairs, bool byRow) {
  constexpr int half = rowsA / 2;
  constexpr int few = rowsA == 14 ? 2 : 1;
  if (rows <= few) return chooseLayout<few>(usePairs, byRow);
  if (rows <= half) return chooseLayout<half>(usePairs, byRow);
  return chooseLayout<rowsA>(usePairs, byRow);
}

/** Writes or adds finished sums to a row of the output. */
void writeRow(float* out, const float* sums, long count, bool accumulate) {
  for (long j = 0; j < count; j += W) {
    const long n = minOf(W, count - j);
    if (n == W) {
      const vf x = load(sums + j);
      store(out + j, accumulate ? add(load(out + j), x) : x);
    } else {
      const vf x = loadPartial(sums + j, n);
      storePartial(out + j, accumulate ? add(loadPartial(out + j, n), x) : x, n);
    }
  }
}

/** Writes the part of a tile that exists. */
void writeTile(const float* tile, const Output& out, float* c, long rows, long cols) {
  for (long i = 0; i < rows; i += 1) writeRow(c + i * out.stride, tile + i * rowsB, cols, out.accumulate);
}

}  // namespace

void multiplyPanels(const PanelProduct& p) {
  const DType dtype = p.a.dtype;
  const long aPanel = panelBytes(rowsA, p.k, dtype);
  const long bPanel = panelBytes(rowsB, p.packedK, dtype);
  const long aBlock = blockBytes(rowsA, dtype) / 4;
  const long bBlock = blockBytes(rowsB, dtype) / 4;
  const long blocks = ceilDiv(p.k, depth);
  const bool usePairs = pairs(dtype);
  const bool scaled = p.a.scales != nullptr;
  alignas(64) float tile[rowsA * rowsB];
  for (long panel = p.panel0; panel < p.panel1; panel += 1) {
    const float* whole = reinterpret_cast<const float*>(static_cast<const char*>(p.packedB) + panel * bPanel);
    const float* b = whole + p.firstBlock * bBlock;
    const float* scalesB = whole + ceilDiv(p.packedK, depth) * bBlock + p.firstBlock * rowsB;
    const long cols = minOf(rowsB, p.n - panel * rowsB);
    for (long row = 0; row < p.m; row += rowsA) {
      const float* a = reinterpret_cast<const float*>(static_cast<const char*>(p.packedA) + row / rowsA * aPanel);
      const float* scalesA = a + blocks * aBlock;
      const long rows = minOf(rowsA, p.m - row);
      const TileBlock block = choose(rows, usePairs, !p.a.transposed);
      float* c = p.out.c + row * p.out.stride + panel * rowsB;
      // Straight into the output where the whole tile exists and nothing has to be added after the last block.
      const bool direct =
          p.goesOn || (rows == rowsA && cols == rowsB && (!p.out.accumulate || blocks == 1));
      float* sum = direct ? c : tile;
      const long stride = direct ? p.out.stride : rowsB;
      const bool onto = p.goesOn ? p.firstBlock > 0 : direct && p.out.accumulate;
      for (long kb = 0; kb < blocks; kb += 1) {
        const long length = minOf(depth, p.k - kb * depth);
        block(a + kb * aBlock, b + kb * bBlock, usePairs ? (length + 1) / 2 : length, sum, stride, kb > 0 || onto,
              scaled ? scalesA + kb * rowsA : nullptr, scalesB + kb * rowsB);
      }
      if (!direct) writeTile(tile, p.out, c, rows, cols);
    }
  }
}

namespace {

/** k = 0: sums are zero. */
void writeZeros(const Problem& p) {
  if (p.out.accumulate) return;
  for (long i = 0; i < p.m; i += 1)
    memset(p.out.c + i * p.out.stride, 0, static_cast<size_t>(p.n) * 4);
}

/** How one product is cut into tasks: rows into chunks that stay in the second-level cache, columns where rows are few. */
struct Plan {
  long firstTask;
  long rowChunk;
  long colChunks;
  long panels;
  long firstPanel;
  char* packedB;
};

constexpr long chunkBytes = 256 << 10;
/** Longer sums are made in segments of so many of k, so that both operands' panels stay in the caches. */
constexpr long segment = 8 * depth;
/** Below this many multiply-adds the other threads are not worth waking. */
constexpr double serialWork = 1 << 18;

/** Most rows a chunk should have. */
long chunkRows(const Problem& p) {
  return maxOf(1, chunkBytes / panelBytes(rowsA, minOf(p.k, segment), p.a.dtype)) * rowsA;
}

/** Rows [first, first + rows) times panels [panel0, panel1). */
void runChunk(const Problem& p, const char* packedB, long first, long rows, long panel0, long panel1) {
  const long length = minOf(p.k, segment);
  char* packed = static_cast<char*>(
      scratch(Scratch::packedA, static_cast<size_t>(ceilDiv(rows, rowsA) * panelBytes(rowsA, length, p.a.dtype))));
  float* c = p.out.c + first * p.out.stride;
  if (p.k <= segment) {
    packA(packed, p.a, first, rows, 0, p.k);
    multiplyPanels({packed, rows, p.k, p.a, packedB, p.k, 0, panel0, panel1, p.n,
                    {c, p.out.stride, p.out.accumulate}, false});
    return;
  }
  // Sums grow in a buffer of whole tiles, and meet the output at the end.
  const long width = (panel1 - panel0) * rowsB;
  float* sums = static_cast<float*>(
      scratch(Scratch::sums, static_cast<size_t>(ceilDiv(rows, rowsA) * rowsA * width) * 4));
  for (long k0 = 0; k0 < p.k; k0 += segment) {
    const long k = minOf(segment, p.k - k0);
    packA(packed, p.a, first, rows, k0, k);
    multiplyPanels({packed, rows, k, p.a, packedB, p.k, k0 / depth, panel0, panel1, p.n,
                    {sums - panel0 * rowsB, width, false}, true});
  }
  const long cols = minOf(p.n - panel0 * rowsB, width);
  for (long i = 0; i < rows; i += 1)
    writeRow(c + i * p.out.stride + panel0 * rowsB, sums + i * width, cols, p.out.accumulate);
}

void runTask(const Problem& p, const Plan& plan, long task) {
  const long first = task / plan.colChunks * plan.rowChunk;
  const long rows = minOf(plan.rowChunk, p.m - first);
  const long chunk = ceilDiv(plan.panels, plan.colChunks);
  const long panel0 = task % plan.colChunks * chunk;
  const long panel1 = minOf(plan.panels, panel0 + chunk);
  if (panel0 < panel1) runChunk(p, plan.packedB, first, rows, panel0, panel1);
}

}  // namespace

void multiply(const Problem* problems, long count) {
  double work = 0;
  for (long i = 0; i < count; i += 1)
    work += static_cast<double>(problems[i].m) * static_cast<double>(problems[i].n) *
            static_cast<double>(problems[i].k);
  if (work < serialWork || threads() == 1) {
    for (long i = 0; i < count; i += 1) multiplyHere(problems[i]);
    return;
  }
  Plan* plans = static_cast<Plan*>(scratch(Scratch::plans, static_cast<size_t>(count) * sizeof(Plan)));
  const double share = work / threads();
  long tasks = 0;
  long panels = 0;
  long bytes = 0;
  for (long i = 0; i < count; i += 1) {
    const Problem& p = problems[i];
    Plan& plan = plans[i];
    plan.firstTask = tasks;
    plan.firstPanel = panels;
    plan.panels = 0;
    if (p.m == 0 || p.n == 0) continue;
    if (p.k == 0) {
      writeZeros(p);
      continue;
    }
    // About four tasks a thread over all products; rows stored across memory are packed by whole lines, so fewer there.
    const double own = static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
    const long parts = maxOf(1, static_cast<long>((p.a.transposed ? 1 : 4) * own / share));
    const long wanted = maxOf(1, ceilDiv(ceilDiv(p.m, rowsA), parts));
    plan.rowChunk = minOf(chunkRows(p), wanted * rowsA);
    const long rowChunks = ceilDiv(p.m, plan.rowChunk);
    plan.panels = ceilDiv(p.n, rowsB);
    plan.colChunks = rowChunks >= parts ? 1 : minOf(plan.panels, ceilDiv(parts, rowChunks));
    tasks += rowChunks * plan.colChunks;
    panels += plan.panels;
    bytes += plan.panels * panelBytes(rowsB, p.k, p.a.dtype);
  }
  char* packed = static_cast<char*>(scratch(Scratch::packedB, static_cast<size_t>(bytes)));
  for (long i = 0; i < count; i += 1) {
    plans[i].packedB = packed;
    packed += plans[i].panels * panelBytes(rowsB, problems[i].k, problems[i].a.dtype);
  }
  // The product a task or panel belongs to: the last one that begins at or before it (empty ones begin where the next does).
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
  parallelRanges(panels, 1, 1, [&](long begin, long end) {
    for (long at = begin; at < end; at += 1) {
      const long i = find(at, &Plan::firstPanel);
      const Problem& p = problems[i];
      const long panel = at - plans[i].firstPanel;
      packB(plans[i].packedB + panel * panelBytes(rowsB, p.k, p.b.dtype), p.b, panel * rowsB,
            minOf(rowsB, p.n - panel * rowsB), p.k);
    }
  });
  parallelFor(tasks, [&](long task) {
    const long i = find(task, &Plan::firstTask);
    runTask(problems[i], plans[i], task - plans[i].firstTask);
  });
}

void multiplyHere(const Problem& p) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    writeZeros(p);
    return;
  }
  const long panels = ceilDiv(p.n, rowsB);
  const long panel = panelBytes(rowsB, p.k, p.b.dtype);
  char* packedB = static_cast<char*>(scratch(Scratch::packedB, static_cast<size_t>(panels * panel)));
  for (long i = 0; i < panels; i += 1)
    packB(packedB + i * panel, p.b, i * rowsB, minOf(rowsB, p.n - i * rowsB), p.k);
  const long chunk = chunkRows(p);
  for (long first = 0; first < p.m; first += chunk)
    runChunk(p, packedB, first, minOf(chunk, p.m - first), 0, panels);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
