// Exact k nearest neighbours, 64 points at a time.
#pragma once

#include "shortlist.hpp"

namespace unknot::UNKNOT_VARIANT {

// The neighbours of the 64 places of one block, to out[original number * k], in any order, self left
// out. Without single precision, blocks are visited by rising distance of their boxes, until none can
// hold a nearer point; in many dimensions that means all of them. Requires k < n.
inline void nearest_of_block(const PointTable& t, int k, int block, const float* tiles,
                             std::int32_t* out) {
  if (t.quick) return shortlisted_nearest(t, k, block, tiles, out);
  const int first = block * 64, count = t.n - first < 64 ? t.n - first : 64;
  Buffer<double> distance(static_cast<std::size_t>(count) * k);
  Buffer<Nearest> best(count);
  for (int q = 0; q < count; ++q)
    best[q] = Nearest{distance.data() + static_cast<std::size_t>(q) * k,
                      out + static_cast<std::size_t>(t.order[first + q]) * k, k};
  alignas(64) double sums[64];
  for (ByGap by_gap(t, block); !by_gap.empty();) {
    double worst = 0;
    for (int q = 0; q < count; ++q)
      if (best[q].worst() > worst) worst = best[q].worst();
    if (by_gap.gap() > worst) break;
    const double gap = by_gap.gap();
    const int other = by_gap.pop();
    const int held = t.n - other * 64 < 64 ? t.n - other * 64 : 64;
    for (int q = 0; q < count; ++q) {
      const double* x = t.rows.data() + static_cast<std::size_t>(first + q) * t.d;
      if (gap > 0 && box_gap(t, x, x, other) > best[q].worst()) continue;
      squared_distances(t, x, other, sums);
      Word near = at_most(sums, best[q].worst());
      if (held < 64) near &= (Word{1} << held) - 1;
      if (other == block) clear_bit(&near, q);
      for (; near; near &= near - 1) {
        const int j = lowest_bit(near);
        best[q].offer(sums[j], t.order[other * 64 + j]);
      }
    }
  }
  for (int q = 0; q < count; ++q)
    settle_nearest(t, t.order[first + q], k, best[q].worst(), best[q].number);
}

template <class T>
void list_squares(const Points& p, const std::int32_t* near, int k, int first, int last, Near* out) {
  constexpr int kFeatures = 1024;
  const T* source = static_cast<const T*>(p.data);
  for (int begin = 0; begin < p.d; begin += kFeatures) {
    const int depth = p.d - begin < kFeatures ? p.d - begin : kFeatures;
    for (int i = first; i < last; ++i) {
      const T* x = source + static_cast<std::size_t>(i) * p.d + begin;
      const std::size_t row = static_cast<std::size_t>(i) * k;
      for (int c = 0; c < k; c += kTogether) {
        const T* y[kTogether];
        double sum[kTogether];
        for (int l = 0; l < kTogether; ++l) {
          const std::size_t at = row + (c + l < k ? c + l : c);
          y[l] = source + static_cast<std::size_t>(near[at]) * p.d + begin;
          sum[l] = out[at].squared;
        }
        add_squares<kTogether>(x, y, depth, sum);
        for (int l = 0; l < kTogether && c + l < k; ++l) out[row + c + l].squared = sum[l];
      }
    }
  }
}
// Adds to `out` the squared distances of points [first, last) to those of their lists in `near`, by the
// rule of points.hpp. Some features at a time, so that the points stay in cache.
inline void list_squares(const Points& p, const std::int32_t* near, int k, int first, int last, Near* out) {
  p.is_double ? list_squares<double>(p, near, k, first, last, out)
              : list_squares<float>(p, near, k, first, last, out);
}

}  // namespace unknot::UNKNOT_VARIANT
