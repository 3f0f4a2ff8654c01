// Products of packed panels, and their distribution over threads (see product.h).
#include "product.h"

namespace baleen {
namespace BALEEN_ISA {

namespace {

/**
 * One block of k of one tile: R rows of a times V vectors of b's columns, summed in ascending k from zero, then
 * sum = fl(sum + fl(acc · fl(scaleA · scaleB))), or without scales fl(sum + acc). `ByRow` says how a's block lies: row
 * after row, or k after k.
 */
template <int R, int V, bool Pairs, bool ByRow>
void tileBlock(const float* a, const float* b, long steps, float* sum, long stride, bool add_,
               const float* scaleA, const float* scaleB) {
  constexpr long aRow = ByRow ? (Pairs ? depth / 2 : depth) : 1;
  constexpr long aStep = ByRow ? 1 : rowsA;
  vf acc[R][V];
#pragma GCC unroll 16
  for (int i = 0; i < R; i += 1)
    for (int v = 0; v < V; v += 1) acc[i][v] = set1(0);
  for (long step = 0; step < steps; step += 1) {
    vf y[V];
    for (int v = 0; v < V; v += 1) y[v] = load(b + v * W);
    b += rowsB;
#pragma GCC unroll 16
    for (int i = 0; i < R; i += 1) {
      const vf x = set1(a[i * aRow]);
      for (int v = 0; v < V; v += 1) {
#if defined(BALEEN_AVX512BF16)
        if constexpr (Pairs) {
          acc[i][v] = _mm512_dpbf16_ps(acc[i][v], (__m512bh)x, (__m512bh)y[v]);
          continue;
        }
#endif
        acc[i][v] = fma(x, y[v], acc[i][v]);
      }
    }
    a += aStep;
  }
  if (scaleA != nullptr) {
    vf s[V];
    for (int v = 0; v < V; v += 1) s[v] = load(scaleB + v * W);
#pragma GCC unroll 16
    for (int i = 0; i < R; i += 1)
      for (int v = 0; v < V; v += 1) acc[i][v] = mul(acc[i][v], mul(set1(scaleA[i]), s[v]));
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; i += 1)
    for (int v = 0; v < V; v += 1) {
      float* at = sum + i * stride + v * W;
      store(at, add_ ? add(load(at), acc[i][v]) : acc[i][v]);
    }
}

using TileBlock = void (*)(const float*, const float*, long, float*, long, bool, const float*, const float*);

template <int R, int V>
TileBlock chooseLayout(bool usePairs, bool byRow) {
#if defined(BALEEN_AVX512BF16)
  if (usePairs) return byRow ? &tileBlock<R, V, true, true> : &tileBlock<R, V, true, false>;
#else
  (void)usePairs;
#endif
  return byRow ? &tileBlock<R, V, false, true> : &tileBlock<R, V, false, false>;
}

template <int V>
TileBlock chooseRows(long rows, bool usePairs, bool byRow) {
  constexpr int half = rowsA / 2;
  constexpr int few = rowsA == 14 ? 2 : 1;
  if (rows <= few) return chooseLayout<few, V>(usePairs, byRow);
  if (rows <= half) return chooseLayout<half, V>(usePairs, byRow);
  return chooseLayout<rowsA, V>(usePairs, byRow);
}

/** The least work that holds `rows` × `cols`: a panel's last rows or columns need not cost a whole tile. */
TileBlock choose(long rows, long cols, bool usePairs, bool byRow) {
  return cols <= W ? chooseRows<1>(rows, usePairs, byRow) : chooseRows<2>(rows, usePairs, byRow);
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
  alignas(64) float buffer[rowsA * rowsB];
  float* sums = p.sums;
  for (long panel = p.panel0; panel < p.panel1; panel += 1) {
    const float* whole = reinterpret_cast<const float*>(static_cast<const char*>(p.packedB) + panel * bPanel);
    const float* b = whole + p.firstBlock * bBlock;
    const float* scalesB = whole + ceilDiv(p.packedK, depth) * bBlock + p.firstBlock * rowsB;
    const long cols = minOf(rowsB, p.n - panel * rowsB);
    for (long row = 0; row < p.m; row += rowsA) {
      const float* a = reinterpret_cast<const float*>(static_cast<const char*>(p.packedA) + row / rowsA * aPanel);
      const float* scalesA = a + blocks * aBlock;
      const long rows = minOf(rowsA, p.m - row);
      const TileBlock block = choose(rows, cols, usePairs, !p.a.transposed);
      // Sums of several blocks grow in a tile of their own: rows of a wide output fall on each other in the cache.
      const bool direct = sums == nullptr && blocks == 1 && rows == rowsA && cols == rowsB;
      float* c = p.out.c + row * p.out.stride + panel * rowsB;
      float* tile = direct ? c : sums != nullptr ? sums : buffer;
      const bool onto = direct ? p.out.accumulate : sums != nullptr && p.firstBlock > 0;
      for (long kb = 0; kb < blocks; kb += 1) {
        const long length = minOf(depth, p.k - kb * depth);
        block(a + kb * aBlock, b + kb * bBlock, usePairs ? (length + 1) / 2 : length, tile,
              direct ? p.out.stride : rowsB, kb > 0 || onto, scaled ? scalesA + kb * rowsA : nullptr,
              scalesB + kb * rowsB);
      }
      if (!direct && p.last) writeTile(tile, p.out, c, rows, cols);
      if (sums != nullptr) sums += rowsA * rowsB;
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
  const long tiles = ceilDiv(rows, rowsA);
  char* packed = static_cast<char*>(
      scratch(Scratch::packedA, static_cast<size_t>(tiles * panelBytes(rowsA, minOf(p.k, segment), p.a.dtype))));
  // Between segments sums wait tile by tile.
  float* sums = p.k <= segment ? nullptr
                               : static_cast<float*>(scratch(Scratch::sums, static_cast<size_t>(
                                     tiles * (panel1 - panel0) * rowsA * rowsB * 4)));
  const Output out = {p.out.c + first * p.out.stride, p.out.stride, p.out.accumulate};
  for (long k0 = 0; k0 < p.k; k0 += segment) {
    const long k = minOf(segment, p.k - k0);
    packA(packed, p.a, first, rows, k0, k);
    multiplyPanels({packed, rows, k, p.a, packedB, p.k, k0 / depth, panel0, panel1, p.n, out, sums, k0 + k == p.k});
  }
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
