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

// Blocks by rising distance of their boxes from the box of one, which comes first itself (a heap).
// None where the table has no boxes.
class ByGap {
 public:
  ByGap(const PointTable& t, int block) : size_(t.box.empty() ? 0 : t.padded / 64) {
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
