// Products of packed panels (see product.h).
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

/** Asks for the lines a tile will be written to, while its sums are made. */
void prefetchTile(const float* c, long stride, long rows, long cols) {
  for (long i = 0; i < rows; i += 1, c += stride) {
    __builtin_prefetch(c, 1);
    __builtin_prefetch(c + cols - 1, 1);
  }
}

/** Writes the part of a tile that exists. */
void writeTile(const float* tile, const Output& out, float* c, long rows, long cols) {
  for (long i = 0; i < rows; i += 1) writeRow(c + i * out.stride, tile + i * rowsB, cols, out.accumulate);
}

}  // namespace

void multiplyPanels(const PanelProduct& p) {
  const DType dtype = p.source.dtype;
  const long aPanel = panelBytes(rowsA, p.a.k, dtype);
  const long bPanel = panelBytes(rowsB, p.b.k, dtype);
  const long aBlock = blockBytes(rowsA, dtype) / 4;
  const long bBlock = blockBytes(rowsB, dtype) / 4;
  const long blocks = ceilDiv(p.k, depth);
  const bool usePairs = pairs(dtype);
  const bool scaled = p.source.scales != nullptr;
  alignas(64) float buffer[rowsA * rowsB];
  float* sums = p.sums;
  for (long panel = p.panel0; panel < p.panel1; panel += 1) {
    const float* bWhole = reinterpret_cast<const float*>(p.b.data + panel * bPanel);
    const float* b = bWhole + p.b.firstBlock * bBlock;
    const float* scalesB = bWhole + ceilDiv(p.b.k, depth) * bBlock + p.b.firstBlock * rowsB;
    const long cols = minOf(rowsB, p.n - panel * rowsB);
    for (long row = 0; row < p.m; row += rowsA) {
      const float* aWhole = reinterpret_cast<const float*>(p.a.data + row / rowsA * aPanel);
      const float* a = aWhole + p.a.firstBlock * aBlock;
      const float* scalesA = aWhole + ceilDiv(p.a.k, depth) * aBlock + p.a.firstBlock * rowsA;
      const long rows = minOf(rowsA, p.m - row);
      const TileBlock block = choose(rows, cols, usePairs, !p.source.transposed);
      // Sums of several blocks grow in a tile of their own: rows of a wide output fall on each other in the cache.
      const bool direct = sums == nullptr && blocks == 1 && rows == rowsA && cols == rowsB;
      float* c = p.out.c + row * p.out.stride + panel * rowsB;
      float* tile = direct ? c : sums != nullptr ? sums : buffer;
      const bool onto = direct ? p.out.accumulate : sums != nullptr && !p.first;
      if (!direct && p.last) prefetchTile(c, p.out.stride, rows, cols);
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

}  // namespace BALEEN_ISA
}  // namespace baleen
