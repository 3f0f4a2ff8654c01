// What a kernel is called with: numbers in one array, in the order that src/signatures*.ts lays them out. In the namespace
// of the instruction set, as all that is compiled for one: see simd.h, which includes this.
#pragma once
#include <cstddef>
#include <cstdint>

namespace baleen {
namespace BALEEN_ISA {

enum class DType : int { f32 = 0, bf16 = 1, e4m3 = 2, i32 = 3, e5m6 = 4, e5m2 = 5 };

/** Bytes of an element; of types whose elements have bytes of their own. */
inline long elementBytes(DType dtype) {
  return dtype == DType::bf16 ? 2 : dtype == DType::e4m3 || dtype == DType::e5m2 ? 1 : 4;
}

/** A typed, contiguous range of memory; `data` is null where an optional view is absent. */
struct View {
  void* data;
  DType dtype;
  long size;

  explicit operator bool() const { return data != nullptr; }
  float* f32() const { return static_cast<float*>(data); }
  uint16_t* bf16() const { return static_cast<uint16_t*>(data); }
  /** Codes of 8 bits; of 12 bits, two in three bytes. */
  uint8_t* codes() const { return static_cast<uint8_t*>(data); }
  int32_t* i32() const { return static_cast<int32_t*>(data); }
};

/** A matrix operand: plain, or FP8 codes with one scale a block. */
struct Operand {
  View values;
  View scales;
  long blockRows;
  long blockCols;
};

/** Reads a call's arguments one after another. */
class Args {
 public:
  explicit Args(const double* slots) : at_(slots) {}

  View view() {
    View v;
    v.data = reinterpret_cast<void*>(static_cast<uintptr_t>(at_[0]));
    v.dtype = static_cast<DType>(static_cast<int>(at_[1]));
    v.size = static_cast<long>(at_[2]);
    at_ += 3;
    return v;
  }
  Operand operand() {
    Operand o;
    o.values = view();
    o.scales = view();
    o.blockRows = integer();
    o.blockCols = integer();
    return o;
  }
  long integer() { return static_cast<long>(*at_++); }
  double number() { return *at_++; }
  bool flag() { return *at_++ != 0; }

 private:
  const double* at_;
};

}  // namespace BALEEN_ISA
}  // namespace baleen
