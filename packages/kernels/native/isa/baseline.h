// Vectors of four FP32 in the compiler's own notation, for any processor; and what each operation means, which the other
// sets' files (isa/) have under the same names.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace baleen {
namespace BALEEN_ISA {

/** Elements of a vector. */
constexpr int W = 4;
/** Registers for vectors (on x86-64; here every processor has them). */
constexpr int registers = 16;
/** Whether `fma` and `fnma` round once. */
constexpr bool fused = false;
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));

inline vf load(const float* p) {
  vf x;
  memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, vf x) { memcpy(p, &x, sizeof x); }
/**
 * Stores a vector past the caches, where there is a way, to a place that begins at a multiple of its size; other threads
 * see it after `drain`.
 */
inline void storePast(float* p, vf x) { store(p, x); }
inline void drain() {}
inline vf set1(float x) { return vf{x, x, x, x}; }
inline vf add(vf a, vf b) { return a + b; }
inline vf sub(vf a, vf b) { return a - b; }
inline vf mul(vf a, vf b) { return a * b; }
inline vf div(vf a, vf b) { return a / b; }
inline vf sqrt(vf a) { return vf{sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
/** a · b + c, and c − a · b: rounded once where the set is `fused`, twice elsewhere. */
inline vf fma(vf a, vf b, vf c) { return a * b + c; }
inline vf fnma(vf a, vf b, vf c) { return c - a * b; }
/** The second where they do not compare: max(x, top) leaves `top` where x is NaN. */
inline vf max(vf a, vf b) { return a > b ? a : b; }
inline vf min(vf a, vf b) { return a < b ? a : b; }
inline vi asInt(vf x) {
  vi y;
  memcpy(&y, &x, sizeof y);
  return y;
}
inline vf asFloat(vi x) {
  vf y;
  memcpy(&y, &x, sizeof y);
  return y;
}
inline vi set1i(int x) { return vi{x, x, x, x}; }
inline vf abs(vf a) { return asFloat(asInt(a) & set1i(0x7fffffff)); }
/** The first n < W elements, zeros behind. */
inline vf loadPartial(const float* p, long n) {
  vf x = set1(0);
  memcpy(&x, p, static_cast<size_t>(n) * 4);
  return x;
}
inline void storePartial(float* p, vf x, long n) { memcpy(p, &x, static_cast<size_t>(n) * 4); }
// Sums and shifts of patterns wrap around, which numbers with a sign may not.
typedef uint32_t vu __attribute__((vector_size(16)));
inline vi addi(vi a, vi b) {
  return reinterpret_cast<vi>(reinterpret_cast<vu>(a) + reinterpret_cast<vu>(b));
}
inline vi subi(vi a, vi b) {
  return reinterpret_cast<vi>(reinterpret_cast<vu>(a) - reinterpret_cast<vu>(b));
}
inline vi andi(vi a, vi b) { return a & b; }
inline vi ori(vi a, vi b) { return a | b; }
template <int N>
inline vi shiftLeft(vi a) {
  return reinterpret_cast<vi>(reinterpret_cast<vu>(a) << N);
}
template <int N>
inline vi shiftRight(vi a) {
  return reinterpret_cast<vi>(reinterpret_cast<vu>(a) >> N);
}
/** Nearest integer, ties to even. */
inline vi roundToInt(vf x) {
  vi y;
  for (int i = 0; i < 4; i += 1) y[i] = static_cast<int32_t>(lrintf(x[i]));
  return y;
}
/** The integer next towards zero, for numbers that have one. */
inline vi truncateToInt(vf x) { return __builtin_convertvector(x, vi); }
inline vf toFloat(vi x) { return __builtin_convertvector(x, vf); }
/** a where x > y (both integers), else b. */
inline vi selectGreater(vi x, vi y, vi a, vi b) { return x > y ? a : b; }
/** The higher of each pair of bytes, 4 · W of them without a sign. */
inline vi higherBytes(vi a, vi b) {
  typedef uint8_t vb __attribute__((vector_size(16)));
  const vb x = reinterpret_cast<vb>(a);
  const vb y = reinterpret_cast<vb>(b);
  return reinterpret_cast<vi>(x > y ? x : y);
}
/** W 16-bit integers widened, and the low 16 bits of W integers. */
inline vi load16(const uint16_t* p) { return vi{p[0], p[1], p[2], p[3]}; }
inline void store16(uint16_t* p, vi x) {
  for (int i = 0; i < 4; i += 1) p[i] = static_cast<uint16_t>(x[i]);
}
/** W bytes widened, and the low 8 bits of W integers. */
inline vi load8(const uint8_t* p) { return vi{p[0], p[1], p[2], p[3]}; }
inline void store8(uint8_t* p, vi x) {
  for (int i = 0; i < 4; i += 1) p[i] = static_cast<uint8_t>(x[i]);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
