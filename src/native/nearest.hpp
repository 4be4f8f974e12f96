// What both searches for nearest neighbours share: the best so far, and which block comes next.
#pragma once

#include <cmath>

#include "tiles.hpp"

namespace unknot::UNKNOT_VARIANT {

// The k best of one query so far, by (squared distance, original number); sorted.
struct Nearest {
  double* distance;
  std::int32_t* number;
  int k, size = 0;

  double worst() const { return size < k ? kInfinite : distance[k - 1]; }
  void offer(double x, std::int32_t id) {
    if (size == k && (x > distance[k - 1] || (x == distance[k - 1] && id > number[k - 1]))) return;
    int at = size < k ? size++ : k - 1;
    for (; at > 0 && (distance[at - 1] > x || (distance[at - 1] == x && number[at - 1] > id)); --at) {
      distance[at] = distance[at - 1];
      number[at] = number[at - 1];
    }
    distance[at] = x;
    number[at] = id;
  }
  static constexpr double kInfinite = HUGE_VAL;
};

// The k nearest of one point, by its original number, where squares under- or overflow. The k-th least
// of the greatest differences in one coordinate is of the size of the distance that has to be told from
// others; in a unit near to it only what is far nearer vanishes, and only what is far farther overflows.
template <class T>
void nearest_in_own_unit(const PointTable& t, int query, int k, std::int32_t* out) {
  const T* source = static_cast<const T*>(t.source.data);
  const T* x = source + static_cast<std::size_t>(query) * t.d;
  Buffer<double> distance(k);
  double share = 1, unit = 0;  // no unit yet: the greatest difference. share: else it could overflow
  auto search = [&] {
    Nearest best{distance.data(), out, k};
    for (int i = 0; i < t.n; ++i) {
      if (i == query) continue;
      const T* y = source + static_cast<std::size_t>(i) * t.d;
      double sum = 0;
      for (int f = 0; f < t.d; ++f) {
        const double step = std::fabs(x[f] * share - y[f] * share);
        if (unit != 0)
          sum += (step * unit) * (step * unit);
        else if (step > sum)
          sum = step;
      }
      best.offer(sum, i);
    }
    return best.worst();
  };
  double reach = search();
  if (reach == HUGE_VAL) {
    share = 0.25;
    reach = search();
  }
  int exponent = reach > 0 ? -std::ilogb(reach) : 1023;
  if (exponent > 1023) exponent = 1023;
  if (exponent < -1000) exponent = -1000;
  unit = std::ldexp(1.0, exponent);
  search();
}

// Finds the k nearest of a point again unless those in `out` are equal to it.
template <class T>
void search_unless_equal(const PointTable& t, int query, int k, std::int32_t* out) {
  const T* source = static_cast<const T*>(t.source.data);
  const T* x = source + static_cast<std::size_t>(query) * t.d;
  for (int i = 0; i < k; ++i) {
    const T* y = source + static_cast<std::size_t>(out[i]) * t.d;
    for (int f = 0; f < t.d; ++f)
      if (x[f] != y[f]) return nearest_in_own_unit<T>(t, query, k, out);
  }
}
#if defined(__GNUC__)
__attribute__((noinline, cold))  // the searches are faster without it among their code
#endif
inline void find_nearest_again(const PointTable& t, int query, int k, std::int32_t* out) {
  t.source.is_double ? search_unless_equal<double>(t, query, k, out) : search_unless_equal<float>(t, query, k, out);
}

// The squared distance of the last of the k nearest in `out` tells whether they may have been chosen
// by squares that vanished or overflowed.
UNKNOT_INLINE void settle_nearest(const PointTable& t, int query, int k, double last, std::int32_t* out) {
  if (!(last > 0x1p-900 && last < 0x1p1000)) find_nearest_again(t, query, k, out);
}

// Blocks by rising distance of their boxes from the box of one, which comes first itself (a heap).
// None where the table has no boxes.
class ByGap {
 public:
  ByGap(const PointTable& t, int block) : size_(t.box.empty() && t.d > 0 ? 0 : t.padded / 64) {
    heap_.resize(size_);
    const double* lo = t.box.data() + static_cast<std::size_t>(block) * 2 * t.d;
    for (int b = 0; b < size_; ++b) heap_[b] = {b == block ? -1.0 : box_gap(t, lo, lo + t.d, b), b};
    for (int i = size_ / 2; i-- > 0;) sift(i);
  }
  bool empty() const { return size_ == 0; }
  double gap() const { return heap_[0].gap; }
  int pop() {
    const int block = heap_[0].block;
    heap_[0] = heap_[--size_];
    if (size_) sift(0);
    return block;
  }

 private:
  struct Far {
    double gap;
    int block;
  };
  void sift(int i) {
    const Far x = heap_[i];
    for (int c; (c = 2 * i + 1) < size_; i = c) {
      if (c + 1 < size_ && heap_[c + 1].gap < heap_[c].gap) ++c;
      if (heap_[c].gap >= x.gap) break;
      heap_[i] = heap_[c];
    }
    heap_[i] = x;
  }
  int size_;
  Buffer<Far> heap_;
};

}  // namespace unknot::UNKNOT_VARIANT
