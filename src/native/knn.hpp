// Exact k nearest neighbours, 64 points at a time.
#pragma once

#include "tiles.hpp"

namespace unknot::UNKNOT_VARIANT {

// The k best of one query so far, by (squared distance, original number); sorted.
struct Nearest {
  double* distance;
  std::int32_t* number;
  int k, size = 0;

  double worst() const { return size < k ? HUGE_DISTANCE : distance[k - 1]; }
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
  static constexpr double HUGE_DISTANCE = 1.7976931348623157e308;
};

// The neighbours of the 64 places of one block, to out[original number * k], nearest first, self
// left out. Blocks are visited by rising distance of their boxes, until none can hold a nearer
// point; in many dimensions that means all of them. Requires k < n.
inline void nearest_of_block(const PointTable& t, int k, int block, std::int32_t* out) {
  struct Far {
    double gap;
    int block;
  };
  const int blocks = t.padded / 64;
  const double* lo = t.box.data() + static_cast<std::size_t>(block) * 2 * t.d;
  Buffer<Far> heap(blocks);
  for (int b = 0; b < blocks; ++b) heap[b] = {b == block ? -1.0 : box_gap(t, lo, lo + t.d, b), b};
  auto sift = [&](int i, int size) {
    const Far x = heap[i];
    for (int c; (c = 2 * i + 1) < size; i = c) {
      if (c + 1 < size && heap[c + 1].gap < heap[c].gap) ++c;
      if (heap[c].gap >= x.gap) break;
      heap[i] = heap[c];
    }
    heap[i] = x;
  };
  for (int i = blocks / 2; i-- > 0;) sift(i, blocks);

  const int first = block * 64, count = t.n - first < 64 ? t.n - first : 64;
  Buffer<double> distance(static_cast<std::size_t>(count) * k);
  Buffer<Nearest> best(count);
  for (int q = 0; q < count; ++q)
    best[q] = Nearest{distance.data() + static_cast<std::size_t>(q) * k,
                      out + static_cast<std::size_t>(t.order[first + q]) * k, k};
  alignas(64) double sums[64];
  for (int size = blocks; size > 0;) {
    const Far next = heap[0];
    heap[0] = heap[--size];
    if (size) sift(0, size);
    double worst = 0;
    for (int q = 0; q < count; ++q)
      if (best[q].worst() > worst) worst = best[q].worst();
    if (next.gap > worst) break;
    const int held = t.n - next.block * 64 < 64 ? t.n - next.block * 64 : 64;
    for (int q = 0; q < count; ++q) {
      const double* x = t.rows.data() + static_cast<std::size_t>(first + q) * t.d;
      if (next.gap > 0 && box_gap(t, x, x, next.block) > best[q].worst()) continue;
      squared_distances(t, x, next.block, sums);
      Word near = at_most(sums, best[q].worst());
      if (held < 64) near &= (Word{1} << held) - 1;
      if (next.block == block) clear_bit(&near, q);
      for (; near; near &= near - 1) {
        const int j = lowest_bit(near);
        best[q].offer(sums[j], t.order[next.block * 64 + j]);
      }
    }
  }
}

}  // namespace unknot::UNKNOT_VARIANT
