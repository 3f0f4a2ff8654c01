// Running over rows of elements: one body, written once, is called for whole vectors and for the tail.
#pragma once
#include "simd.h"

namespace baleen {
namespace BALEEN_ISA {

/** How a body reads and writes where W elements are left. */
struct Whole {
  vf load(const float* p) const { return BALEEN_ISA::load(p); }
  void store(float* p, vf x) const { BALEEN_ISA::store(p, x); }
  vf load(const uint16_t* p) const { return loadBf16(p); }
  void store(uint16_t* p, vf x) const { storeBf16(p, x); }
  vi loadCodes(const uint8_t* p) const { return load8(p); }
  void storeCodes(uint8_t* p, vi x) const { store8(p, x); }
};

/** The same where only `count` < W are left: the other lanes read as zero and are not written. */
struct Part {
  long count;
  vf load(const float* p) const { return loadPartial(p, count); }
  void store(float* p, vf x) const { storePartial(p, x, count); }
  vf load(const uint16_t* p) const { return loadBf16Partial(p, count); }
  void store(uint16_t* p, vf x) const { storeBf16Partial(p, x, count); }
  vi loadCodes(const uint8_t* p) const { return load8Partial(p, count); }
  void storeCodes(uint8_t* p, vi x) const { store8Partial(p, x, count); }
};

/** Whole vectors of FP32 written past the caches, to places that begin at a multiple of their size; `drain` when done. */
struct Past : Whole {
  void store(float* p, vf x) const { storePast(p, x); }
};

/**
 * Whether an output [rows, cols] is for `Past`: 64 MiB and more are not read again from a cache, and lines that are written
 * past it need not be read first. Rows must be whole vectors that begin at one.
 */
inline bool goesPast(const float* out, long rows, long cols) {
  return rows * cols >= (16 << 20) && cols % W == 0 && reinterpret_cast<uintptr_t>(out) % 64 == 0;
}

/** Calls `body(at, i)` for every vector that begins in [begin, end), `at` being a `Whole` or a `Part`. */
template <class Body>
inline void forRange(long begin, long end, Body&& body) {
  long i = begin;
  for (; i + W <= end; i += W) body(Whole{}, i);
  if (i < end) body(Part{end - i}, i);
}

/** The same over [0, size), on several threads from 2 · `grain` elements on. */
template <class Body>
inline void forElements(long size, long grain, Body&& body) {
  parallelRanges(size, grain, 64, [&](long begin, long end) { forRange(begin, end, body); });
}

/**
 * Σ of `term(at, i)` over [0, size) in a tree that depends on the size alone: four vectors take turns, so that additions
 * need not wait for each other. Terms of lanes beyond the size must be zero.
 */
template <class Term>
inline float sumRow(long size, Term&& term) {
  vf s0 = set1(0), s1 = set1(0), s2 = set1(0), s3 = set1(0);
  long i = 0;
  for (; i + 4 * W <= size; i += 4 * W) {
    s0 = add(s0, term(Whole{}, i));
    s1 = add(s1, term(Whole{}, i + W));
    s2 = add(s2, term(Whole{}, i + 2 * W));
    s3 = add(s3, term(Whole{}, i + 3 * W));
  }
  for (; i + W <= size; i += W) s0 = add(s0, term(Whole{}, i));
  if (i < size) s1 = add(s1, term(Part{size - i}, i));
  return sumOf(add(add(s0, s1), add(s2, s3)));
}

/** Rows of `cols` elements that are worth a thread's while: about 64 KB of FP32. */
inline long rowGrain(long cols) { return maxOf(1, 16384 / maxOf(1, cols)); }

}  // namespace BALEEN_ISA
}  // namespace baleen
