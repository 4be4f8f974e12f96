// The exact nearest point of another component, 64 points at a time.
#pragma once

#include "shortlist.hpp"

namespace unknot::UNKNOT_VARIANT {

// The nearest foreign point of one query so far, by (squared distance, original number).
struct NearestForeign {
  double squared;  // nothing farther is looked for
  std::int32_t number = -1;

  void offer(double x, std::int32_t id) {
    if (x > squared || (x == squared && number >= 0 && id > number)) return;
    squared = x;
    number = id;
  }
};

inline bool wants(const ForeignSearch& s, std::int32_t point, int block) {
  return s.open[point] && s.whole[block] != s.component[point];
}

// Single precision finds what may be near enough, see shortlist.hpp; float64 decides.
inline void foreign_in_tile(const PointTable& t, const ForeignSearch& s, int query, int other,
                            const float* dots, NearestForeign& best) {
  const float own = t.low_norm[query], slack = t.high_norm[query] - own;
  // D <= bound  =>  low <= bound - low_norm of the query, but for what twice the error bound covers.
  const double bound = best.squared * t.scale * t.scale / 2 - own;
  float most = bound < kFar / 2 ? static_cast<float>(bound) + slack : kFar;
  most += (most < 0 ? -most : most) * 2.4e-7f;
  alignas(64) float low[64];
  differences(0, t.low_norm.data() + other * 64, dots, low);
  const std::int32_t component = s.component[t.order[query]];
  int places[64], found = 0, count = 0;
  float least = kFar;  // the nearest of them has D - h_x <= least + e
  for (Word near = at_most(low, most < kFar ? most : kFar); near; near &= near - 1) {
    const int j = lowest_bit(near), place = other * 64 + j;
    if (place >= t.n) continue;
    const std::int32_t other_component = s.component[t.order[place]];
    if (other_component < 0 || other_component == component) continue;
    const float high = t.high_norm[place] - dots[j];
    if (high < least) least = high;
    places[found++] = place;
  }
  least += slack;
  least += (least < 0 ? -least : least) * 2.4e-7f;
  for (int c = 0; c < found; ++c)
    if (low[places[c] % 64] <= least) places[count++] = places[c];
  double squared[64];
  listed_distances(t, query, places, count, squared);
  for (int c = 0; c < count; ++c) best.offer(squared[c], t.order[places[c]]);
}

inline void foreign_by_tiles(const PointTable& t, const ForeignSearch& s, int block, NearestForeign* best) {
  const int count = t.n - block * 64 < 64 ? t.n - block * 64 : 64;
  alignas(64) float dots[64 * 64];
  for (int step = 0; step < t.padded / 64; ++step) {
    const int other = (block + step) % (t.padded / 64);
    for (int r = 0; r < count; r += 4) {
      const int end = r + 4 < count ? r + 4 : count;
      bool wanted = false;
      for (int q = r; q < end; ++q) wanted |= wants(s, t.order[block * 64 + q], other);
      if (!wanted) continue;
      const float* row = dots;
      if (s.tiles)
        row = s.tiles + (static_cast<std::size_t>(block) * (t.padded / 64) + other) * 4096 + r * 64;
      else
        inner_tile(t, block * 64 + r, end - r, other, dots);
      for (int q = r; q < end; ++q)
        if (wants(s, t.order[block * 64 + q], other))
          foreign_in_tile(t, s, block * 64 + q, other, row + (q - r) * 64, best[q]);
    }
  }
}

inline void foreign_by_boxes(const PointTable& t, const ForeignSearch& s, int block, NearestForeign* best) {
  const int count = t.n - block * 64 < 64 ? t.n - block * 64 : 64;
  alignas(64) double sums[64];
  for (ByGap by_gap(t, block); !by_gap.empty();) {
    double worst = -1;
    for (int q = 0; q < count; ++q)
      if (s.open[t.order[block * 64 + q]] && best[q].squared > worst) worst = best[q].squared;
    if (by_gap.gap() > worst) break;
    const int other = by_gap.pop();
    const int held = t.n - other * 64 < 64 ? t.n - other * 64 : 64;
    for (int q = 0; q < count; ++q) {
      const std::int32_t query = t.order[block * 64 + q];
      if (!wants(s, query, other)) continue;
      const double* x = t.rows.data() + static_cast<std::size_t>(block * 64 + q) * t.d;
      if (box_gap(t, x, x, other) > best[q].squared) continue;
      squared_distances(t, x, other, sums);
      Word near = at_most(sums, best[q].squared);
      if (held < 64) near &= (Word{1} << held) - 1;
      for (; near; near &= near - 1) {
        const int j = lowest_bit(near);
        const std::int32_t id = t.order[other * 64 + j];
        const std::int32_t component = s.component[id];
        if (component >= 0 && component != s.component[query]) best[q].offer(sums[j], id);
      }
    }
  }
}

// For the open points among the 64 places of one block. Requires squared distances within float64.
inline void nearest_foreign(const PointTable& t, const ForeignSearch& s, int block) {
  const int count = t.n - block * 64 < 64 ? t.n - block * 64 : 64;
  NearestForeign best[64];
  bool any = false;
  for (int q = 0; q < count; ++q) {
    const std::int32_t query = t.order[block * 64 + q];
    if (!s.open[query]) continue;
    best[q].squared = s.bound[s.component[query]];
    any = true;
  }
  if (!any) return;
  t.quick ? foreign_by_tiles(t, s, block, best) : foreign_by_boxes(t, s, block, best);
  for (int q = 0; q < count; ++q) {
    const std::int32_t query = t.order[block * 64 + q];
    if (!s.open[query]) continue;
    s.reach[query] = best[q].squared;
    s.partner[query] = best[q].number;
  }
}

}  // namespace unknot::UNKNOT_VARIANT
