// AArch64's vectors, four FP32; isa/baseline.h says what each operation means. Every such processor has them.
#pragma once
#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace baleen {
namespace BALEEN_ISA {

constexpr int W = 4;
constexpr int registers = 32;
constexpr bool fused = true;
using vf = float32x4_t;
using vi = int32x4_t;

inline vf load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, vf x) { vst1q_f32(p, x); }
inline void storePast(float* p, vf x) { store(p, x); }
inline void drain() {}
inline vf set1(float x) { return vdupq_n_f32(x); }
inline vf add(vf a, vf b) { return vaddq_f32(a, b); }
inline vf sub(vf a, vf b) { return vsubq_f32(a, b); }
inline vf mul(vf a, vf b) { return vmulq_f32(a, b); }
inline vf div(vf a, vf b) { return vdivq_f32(a, b); }
inline vf sqrt(vf a) { return vsqrtq_f32(a); }
inline vf fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
inline vf fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
// Compared and chosen: the set's own maximum of a number and NaN is NaN.
inline vf max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline vf min(vf a, vf b) { return vbslq_f32(vcgtq_f32(b, a), a, b); }
inline vf abs(vf a) { return vabsq_f32(a); }
inline vf loadPartial(const float* p, long n) {
  const vf zero = vdupq_n_f32(0);
  if (n < 2) return n == 1 ? vld1q_lane_f32(p, zero, 0) : zero;
  const vf two = vcombine_f32(vld1_f32(p), vget_low_f32(zero));
  return n == 2 ? two : vld1q_lane_f32(p + 2, two, 2);
}
inline void storePartial(float* p, vf x, long n) {
  if (n >= 2) vst1_f32(p, vget_low_f32(x));
  if (n == 1) vst1q_lane_f32(p, x, 0);
  if (n == 3) vst1q_lane_f32(p + 2, x, 2);
}
inline vi asInt(vf x) { return vreinterpretq_s32_f32(x); }
inline vf asFloat(vi x) { return vreinterpretq_f32_s32(x); }
inline vi set1i(int x) { return vdupq_n_s32(x); }
inline vi addi(vi a, vi b) { return vaddq_s32(a, b); }
inline vi subi(vi a, vi b) { return vsubq_s32(a, b); }
inline vi andi(vi a, vi b) { return vandq_s32(a, b); }
inline vi ori(vi a, vi b) { return vorrq_s32(a, b); }
template <int N>
inline vi shiftLeft(vi a) {
  return vshlq_n_s32(a, N);
}
template <int N>
inline vi shiftRight(vi a) {
  return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), N));
}
inline vi roundToInt(vf x) { return vcvtnq_s32_f32(x); }
inline vi truncateToInt(vf x) { return vcvtq_s32_f32(x); }
inline vf toFloat(vi x) { return vcvtq_f32_s32(x); }
inline vi selectGreater(vi x, vi y, vi a, vi b) { return vbslq_s32(vcgtq_s32(x, y), a, b); }
inline vi higherBytes(vi a, vi b) {
  return vreinterpretq_s32_u8(vmaxq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
}
inline vi load16(const uint16_t* p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
inline void store16(uint16_t* p, vi x) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(x))); }
inline vi load8(const uint8_t* p) {
  uint32_t bytes;
  memcpy(&bytes, p, sizeof bytes);
  const uint8x8_t codes = vcreate_u8(bytes);
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(codes))));
}
inline void store8(uint8_t* p, vi x) {
  const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(x));
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  memcpy(p, &four, sizeof four);
}

}  // namespace BALEEN_ISA
}  // namespace baleen
