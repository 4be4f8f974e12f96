// Packed bits and the one container the hot code uses.
//
// Everything in a UNKNOT_VARIANT namespace is compiled once per instruction set. A symbol
// such as std::vector<uint64_t>::resize would be shared between those builds, and the linker might
// keep the AVX-512 copy for a machine without it; hence Buffer, and no std templates over plain
// types in variant code.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#if defined(_MSC_VER) && !defined(__clang__)
#include <bit>
#define UNKNOT_INLINE __forceinline
#else
#define UNKNOT_INLINE inline __attribute__((always_inline))
#endif
#if defined(__BMI2__)
#include <immintrin.h>
#endif

#ifndef UNKNOT_VARIANT
#define UNKNOT_VARIANT baseline
#endif

namespace unknot {
using Word = std::uint64_t;
}

namespace unknot::UNKNOT_VARIANT {

#if defined(_MSC_VER) && !defined(__clang__)
UNKNOT_INLINE int lowest_bit(Word x) { return std::countr_zero(x); }
UNKNOT_INLINE int count_bits(Word x) { return std::popcount(x); }
UNKNOT_INLINE int highest_bit(Word x) { return 63 - std::countl_zero(x); }
#else
UNKNOT_INLINE int lowest_bit(Word x) { return __builtin_ctzll(x); }
UNKNOT_INLINE int count_bits(Word x) { return __builtin_popcountll(x); }
UNKNOT_INLINE int highest_bit(Word x) { return 63 - __builtin_clzll(x); }
#endif

UNKNOT_INLINE int words_for(std::int64_t bits) { return static_cast<int>((bits + 63) / 64); }
UNKNOT_INLINE bool has_bit(const Word* row, int i) { return (row[i >> 6] >> (i & 63)) & 1; }
UNKNOT_INLINE void set_bit(Word* row, int i) { row[i >> 6] |= Word{1} << (i & 63); }
UNKNOT_INLINE void clear_bit(Word* row, int i) { row[i >> 6] &= ~(Word{1} << (i & 63)); }

UNKNOT_INLINE void fill_ones(Word* row, int bits) {
  const int full = bits >> 6;
  for (int k = 0; k < full; ++k) row[k] = ~Word{0};
  if (bits & 63) row[full] = (Word{1} << (bits & 63)) - 1;
}

// The bits of x where mask is set, moved together at the low end.
UNKNOT_INLINE Word extract(Word x, Word mask) {
#if defined(__BMI2__)
  return _pext_u64(x, mask);
#else
  Word out = 0;
  x &= mask;
  for (int k = 0; x; ++k) {
    const Word low = mask & (~mask + 1);
    if (x & low) {
      out |= Word{1} << k;
      x ^= low;
    }
    mask ^= low;
  }
  return out;
#endif
}

template <class F>
UNKNOT_INLINE void for_each_bit(const Word* row, int words, F f) {
  for (int k = 0; k < words; ++k)
    for (Word x = row[k]; x; x &= x - 1) f(k * 64 + lowest_bit(x));
}

// A growing array of plain values; resize() leaves new elements unset.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t n) { resize(n); }
  Buffer(std::size_t n, T value) { assign(n, value); }
  Buffer(const Buffer& o) {
    resize(o.size_);
    if (size_) std::memcpy(data_, o.data_, size_ * sizeof(T));
  }
  Buffer(Buffer&& o) noexcept { swap(o); }
  Buffer& operator=(Buffer o) noexcept {
    swap(o);
    return *this;
  }
  ~Buffer() { std::free(data_); }
  void swap(Buffer& o) noexcept {
    T* d = data_;
    data_ = o.data_;
    o.data_ = d;
    std::size_t s = size_;
    size_ = o.size_;
    o.size_ = s;
    s = capacity_;
    capacity_ = o.capacity_;
    o.capacity_ = s;
  }
  void reserve(std::size_t n) {
    if (n <= capacity_) return;
    if (n > PTRDIFF_MAX / sizeof(T)) throw std::bad_alloc();
    void* p = std::realloc(static_cast<void*>(data_), n * sizeof(T));
    if (!p) throw std::bad_alloc();
    data_ = static_cast<T*>(p);
    capacity_ = n;
  }
  void resize(std::size_t n) {
    if (n > capacity_) reserve(size_ ? (n > size_ * 2 ? n : size_ * 2) : n);
    size_ = n;
  }
  void assign(std::size_t n, T value) {
    resize(n);
    for (std::size_t i = 0; i < n; ++i) data_[i] = value;
  }
  void push_back(T value) {
    resize(size_ + 1);
    data_[size_ - 1] = value;
  }
  void clear() { size_ = 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

// The set bits of one row, as a recipe that moves those columns of any other row together.
struct Packer {
  Buffer<int> word;
  Buffer<Word> mask;
  Buffer<int> offset;
  int bits = 0;

  void set(const Word* row, int lo, int hi) {
    word.clear();
    mask.clear();
    offset.clear();
    bits = 0;
    for (int k = lo; k < hi; ++k)
      if (row[k]) {
        word.push_back(k);
        mask.push_back(row[k]);
        offset.push_back(bits);
        bits += count_bits(row[k]);
      }
  }
  // out must have words_for(bits) words.
  UNKNOT_INLINE void pack(const Word* row, Word* out) const {
    const int w = words_for(bits);
    for (int k = 0; k < w; ++k) out[k] = 0;
    const int used = static_cast<int>(word.size());
    for (int t = 0; t < used; ++t) {
      const Word x = extract(row[word[t]], mask[t]);
      const int at = offset[t] >> 6, shift = offset[t] & 63;
      out[at] |= x << shift;
      if (shift && (x >> (64 - shift))) out[at + 1] |= x >> (64 - shift);
    }
  }
};

// A first-in, first-out list of vertices, each at most once. Ring buffer of n + 1 places.
class Worklist {
 public:
  explicit Worklist(int n) : ring_(static_cast<std::size_t>(n) + 1), queued_(words_for(n), 0) {}
  bool empty() const { return head_ == tail_; }
  void push(int v) {
    if (has_bit(queued_.data(), v)) return;
    set_bit(queued_.data(), v);
    ring_[tail_] = v;
    if (++tail_ == ring_.size()) tail_ = 0;
  }
  int pop() {
    const int v = ring_[head_];
    if (++head_ == ring_.size()) head_ = 0;
    clear_bit(queued_.data(), v);
    return v;
  }
  const Word* queued() const { return queued_.data(); }

 private:
  Buffer<int> ring_;
  Buffer<Word> queued_;
  std::size_t head_ = 0, tail_ = 0;
};

// Vertices by rising degree (counting sort).
inline void push_by_degree(Worklist& list, const Buffer<int>& degree) {
  const int n = static_cast<int>(degree.size());
  Buffer<int> start(static_cast<std::size_t>(n) + 2, 0), order(n);
  for (int v = 0; v < n; ++v) ++start[degree[v] + 1];
  for (int k = 0; k <= n; ++k) start[k + 1] += start[k];
  for (int v = 0; v < n; ++v) order[start[degree[v]]++] = v;
  for (int v = 0; v < n; ++v) list.push(order[v]);
}

}  // namespace unknot::UNKNOT_VARIANT
