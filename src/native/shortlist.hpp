// Exact k nearest neighbours in many dimensions: single precision draws up a short list, float64
// decides what single precision leaves open.
//
// Let D be half the squared distance by the rule of points.hpp (float64, in the order of the
// features), of points scaled by a power of two as in the table; x~, y~ the centred points as
// stored in single precision, h_x and h_y half their squared norms, u = 2^-24. Then
//   D = h_x + h_y - x~.y~ + error,   |error| <= c (h_x + h_y) + tiny,
// and c = shortlist_error(d) also covers what is done with it, for
// - both subtraction of the centre and conversion are relative to x - centre, so that
//   |x~ - (x - centre)| <= 1.001 u |x~|, which moves half the squared distance by at most
//   4.1 u (h_x + h_y);
// - sums of at most m = min(d, 128) products, s = min(d / 128, 16) of them added to one another, and
//   d / 2048 of these, are off by at most 1.01 (m + s + d / 2048 + 1) u |x~| |y~|, fused or not, and
//   |x~| |y~| <= h_x + h_y;
// - conversion of high_norm and low_norm, and high_norm - x~.y~: at most 1 u and 2.1 u;
// - high_norm - low_norm as twice the error bound of a query: 1.1 u of its norm;
// - the float64 rule itself: d 2^-51 of h_x + h_y, which is less than the 0.1 depth to spare.
// Underflow adds at most 2^-149 (1 + |x~|) a feature in single precision, and scale^2 2^-1074 in
// float64; tiny takes 2^-120 and 2^-1020, which holds where subnormal numbers are flushed to zero.
//
// Hence, with high = high_norm[y] - x~.y~, low = low_norm[y] - x~.y~ and e = the query's own share:
//   low - e <= D - h_x <= high + e.
// If k candidates have high <= bound, the k nearest have D - h_x <= bound + e, and a point with
// low > bound + 2 e is farther than all of them. If the k-th least low is b, a point with
// high + 2 e < b is nearer than the k-th, and certainly among the k.
#pragma once

#include "nearest.hpp"

namespace unknot::UNKNOT_VARIANT {

constexpr float kFar = 3.402823466e38f;  // the greatest finite float
constexpr int kStrip = 32;               // blocks at a time: 512 KiB of inner products

// The least and the greatest finite of 64 values, none of which is -kFar or less.
inline void finite_range(const float* x, float* least, float* greatest) {
  constexpr int lanes = sizeof(Lanes) / sizeof(float);
  Lanes lo = Lanes{} + kFar, hi = Lanes{} - kFar;
  const Lanes none = hi, most = lo;
  for (int j = 0; j < 64; j += lanes) {
    const Lanes v = *reinterpret_cast<const Lanes*>(x + j);
    lo = v < lo ? v : lo;
    const Lanes finite = v <= most ? v : none;
    hi = finite > hi ? finite : hi;
  }
  float a[lanes], b[lanes];
  std::memcpy(a, &lo, sizeof a);
  std::memcpy(b, &hi, sizeof b);
  *least = a[0];
  *greatest = b[0];
  for (int l = 1; l < lanes; ++l) {
    *least = a[l] < *least ? a[l] : *least;
    *greatest = b[l] > *greatest ? b[l] : *greatest;
  }
}

// Bisects until few values lie between: fewer than k are <= lo, and at least k are <= hi, before and
// after. x: whole blocks of 64.
inline void close_in(const float* x, std::size_t blocks, int k, float* lo, float* hi) {
  for (int step = 0; step < 12; ++step) {
    const float middle = *lo + (*hi - *lo) * 0.5f;
    int count = 0;
    for (std::size_t b = 0; b < blocks; ++b) count += count_bits(at_most(x + b * 64, middle));
    (count < k ? *lo : *hi) = middle;
    if (count == k) break;
  }
}

// Two ends for the k-th least of finite values, k of them or more.
inline void enclose(Buffer<float>& x, int k, float* lo, float* hi) {
  const std::size_t n = x.size(), blocks = (n + 63) / 64;
  x.resize(blocks * 64);
  for (std::size_t i = n; i < blocks * 64; ++i) x[i] = HUGE_VALF;
  *lo = kFar;
  *hi = -kFar;
  for (std::size_t b = 0; b < blocks; ++b) {
    float least, greatest;
    finite_range(x.data() + b * 64, &least, &greatest);
    if (least < *lo) *lo = least;
    if (greatest > *hi) *hi = greatest;
  }
  *lo -= (*lo < 0 ? -*lo : *lo) * 2.4e-7f + 1e-37f;  // below all
  close_in(x.data(), blocks, k, lo, hi);
  x.resize(n);
}

// What may still be among the k nearest of one query, by rising place.
struct Shortlist {
  Buffer<float> high, low;
  Buffer<int> place;
  float bound = kFar;  // k candidates have high <= bound

  int size() const { return static_cast<int>(place.size()); }
  void clear() {
    high.clear();
    low.clear();
    place.clear();
    bound = kFar;
  }
  float limit(float slack) const {  // rounded up
    const float sum = bound + slack;
    return sum + (sum < 0 ? -sum : sum) * 2.4e-7f;
  }
  void keep(int from, int to) {
    high[to] = high[from];
    low[to] = low[from];
    place[to] = place[from];
  }
  void cut(int count) {
    high.resize(count);
    low.resize(count);
    place.resize(count);
  }

  // Takes in one query's inner products with `blocks` blocks, `apart` between them.
  void add(const PointTable& t, const float* dots, int apart, const int* block, int blocks, int k,
           float slack) {
    const float *highs = t.high_norm.data(), *lows = t.low_norm.data();
    alignas(64) float x[64];
    if (k <= 64) {  // the least of every 64th value: k of them bound the k-th least of all
      constexpr int lanes = sizeof(Lanes) / sizeof(float);
      differences(0, highs + block[0] * 64, dots, x);
      for (int b = 1; b < blocks; ++b)
        for (int j = 0; j < 64; j += lanes) {
          Lanes* to = reinterpret_cast<Lanes*>(x + j);
          const Lanes v = *reinterpret_cast<const Lanes*>(highs + block[b] * 64 + j) -
                          *reinterpret_cast<const Lanes*>(dots + b * apart + j);
          *to = v < *to ? v : *to;
        }
      float lo, hi;
      finite_range(x, &lo, &hi);
      if (count_bits(at_most(x, hi)) >= k) {
        close_in(x, 1, k, &lo, &hi);
        if (hi < bound) bound = hi;
      }
    }
    const float most = limit(slack) < kFar ? limit(slack) : kFar;
    for (int b = 0; b < blocks; ++b) {
      const int first = block[b] * 64;
      differences(0, lows + first, dots + b * apart, x);
      Word near = at_most(x, most);
      if (!near) continue;
      int n = size();
      cut(n + count_bits(near));
      for (; near; near &= near - 1, ++n) {
        const int j = lowest_bit(near);
        low[n] = x[j];
        high[n] = highs[first + j] - dots[b * apart + j];
        place[n] = first + j;
      }
    }
  }

  // Lowers the bound as far as the list allows and drops what it excludes; k stay of a list that had
  // k, for as many keep the bound.
  void tighten(int k, float slack) {
    const int n = size();
    if (n <= k) return;
    float lo, hi;
    enclose(high, k, &lo, &hi);
    if (hi < bound) bound = hi;
    const float most = limit(slack);
    int left = 0;
    for (int i = 0; i < n; ++i)
      if (low[i] <= most) keep(i, left++);
    cut(left);
  }
};

struct Decision {
  Buffer<int> open, at;  // places that are neither sure nor out, and where they stand in the list
  Buffer<double> exact, distance;
  Buffer<std::int32_t> number;
};

// Float64 decides: of those not sure, the nearest by (squared distance, number). Leaves k in the list
// and returns the squared distance of the last.
inline double decide(const PointTable& t, int query, int k, float slack, Shortlist& list, Decision& by) {
  const int n = list.size();
  float sure, hi;  // fewer than k have low <= sure: the k-th least is greater
  enclose(list.low, k, &sure, &hi);
  sure -= slack;
  sure -= (sure < 0 ? -sure : sure) * 2.4e-7f;
  by.open.resize(n);
  by.at.resize(n);
  int count = 0;
  for (int i = 0; i < n; ++i)
    if (list.high[i] > sure) {
      by.open[count] = list.place[i];
      by.at[count++] = i;
    }
  const int wanted = k - (n - count);
  by.exact.resize(count);
  by.distance.resize(wanted);
  by.number.resize(wanted);
  listed_distances(t, query, by.open.data(), count, by.exact.data());
  Nearest best{by.distance.data(), by.number.data(), wanted};
  for (int c = 0; c < count; ++c) best.offer(by.exact[c], t.order[by.open[c]]);
  // The last of the chosen tells the others.
  const double last = by.distance[wanted - 1];
  const std::int32_t last_number = by.number[wanted - 1];
  int left = 0, c = 0;
  for (int i = 0; i < n; ++i) {
    bool in = true;
    if (c < count && by.at[c] == i) {
      in = by.exact[c] < last || (by.exact[c] == last && t.order[by.open[c]] <= last_number);
      ++c;
    }
    if (in) list.keep(i, left++);
  }
  list.cut(left);
  return last;
}

// All inner products of block rb with blocks from rb on, and their mirror images; tile (i, j) at
// (i * blocks + j) * 4096. A point is infinitely far from itself.
inline void inner_tiles(const PointTable& t, int rb, float* tiles) {
  const std::size_t blocks = t.padded / 64;
  const int count = t.n - rb * 64 < 64 ? t.n - rb * 64 : 64;
  for (int cb = rb; cb < static_cast<int>(blocks); ++cb) {
    float* tile = tiles + (rb * blocks + cb) * 4096;
    inner_tile(t, rb * 64, count, cb, tile);
    if (cb == rb) {
      for (int q = 0; q < count; ++q) tile[q * 65] = -HUGE_VALF;
      continue;
    }
    float* mirror = tiles + (cb * blocks + rb) * 4096;
    for (int r = 0; r < 64; r += 4)
      for (int c = 0; c < 64; c += 4) {
#if defined(__SSE2__)
        __m128 a0 = _mm_loadu_ps(tile + r * 64 + c), a1 = _mm_loadu_ps(tile + r * 64 + 64 + c);
        __m128 a2 = _mm_loadu_ps(tile + r * 64 + 128 + c), a3 = _mm_loadu_ps(tile + r * 64 + 192 + c);
        _MM_TRANSPOSE4_PS(a0, a1, a2, a3);
        _mm_storeu_ps(mirror + c * 64 + r, a0);
        _mm_storeu_ps(mirror + c * 64 + 64 + r, a1);
        _mm_storeu_ps(mirror + c * 64 + 128 + r, a2);
        _mm_storeu_ps(mirror + c * 64 + 192 + r, a3);
#else
        for (int i = 0; i < 16; ++i)
          mirror[(c + i % 4) * 64 + r + i / 4] = tile[(r + i / 4) * 64 + c + i % 4];
#endif
      }
  }
}

// As nearest_of_block, for a table with t.quick. tiles: from inner_tiles, or null. Requires k < n.
inline void shortlisted_nearest(const PointTable& t, int k, int block, const float* tiles,
                                std::int32_t* out) {
  const int blocks = t.padded / 64, end = t.n - block * 64 < 64 ? t.n : block * 64 + 64;
  const bool boxes = !t.box.empty() && !tiles;
  const bool at_once = tiles || (!boxes && blocks <= kStrip);
  const int strip = at_once || blocks < kStrip ? blocks : kStrip;
  // A few queries at a time keep in cache what all blocks take; more make up for blocks read again.
  const int group = at_once ? 16 : 64, apart = tiles ? 4096 : group * 64;
  Buffer<float> buffer;
  Decision by;
  if (!tiles) buffer.resize(static_cast<std::size_t>(strip) * apart + 16);
  float* own = buffer.data();
  while (reinterpret_cast<std::uintptr_t>(own) % 64) ++own;
  Buffer<int> which(strip);
  Shortlist lists[64];  // one will do where all blocks come at once
  for (int first = block * 64; first < end; first += group) {
    const int count = end - first < group ? end - first : group;
    ByGap by_gap(t, block);
    double worst = HUGE_VAL;
    for (int begin = 0, width, most = boxes ? 8 : strip;; begin += width, most *= 2) {
      for (width = 0; width < strip && width < most; ++width) {
        if (boxes ? by_gap.empty() || by_gap.gap() > worst : begin + width == blocks) break;
        which[width] = boxes ? by_gap.pop() : begin + width;
      }
      const bool last = at_once || width == 0;
      const float* dots = own;
      if (tiles) dots = tiles + static_cast<std::size_t>(block) * blocks * 4096 + first % 64 * 64;
      for (int b = 0; b < width && !tiles; ++b) {
        inner_tile(t, first, count, which[b], own + b * apart);
        if (which[b] == block)
          for (int q = 0; q < count; ++q) own[b * apart + q * 64 + (first + q) % 64] = -HUGE_VALF;
      }
      worst = 0;
      for (int q = 0; q < count; ++q) {
        Shortlist& list = lists[at_once ? 0 : q];
        const float slack = t.high_norm[first + q] - t.low_norm[first + q];
        if (begin == 0) list.clear();
        if (width) {
          list.add(t, dots + q * 64, apart, which.data(), width, k, slack);
          list.tighten(k, slack);
        }
        if (boxes) {  // high_norm is h_x + e, or rounded from it; the slack covers the rounding
          const double far = (static_cast<double>(list.bound) + t.high_norm[first + q] + slack) * 2;
          if (list.bound == kFar || far > worst) worst = list.bound == kFar ? HUGE_VAL : far;
        }
        if (!last) continue;
        const bool open = list.size() > k;
        const double squared = open ? decide(t, first + q, k, slack, list, by) : 1;
        std::int32_t* to = out + static_cast<std::size_t>(t.order[first + q]) * k;
        for (int i = 0; i < k; ++i) to[i] = t.order[list.place[i]];
        settle_nearest(t, t.order[first + q], k, squared, to);
      }
      if (last) break;
      worst = worst / t.scale / t.scale;
    }
  }
}

}  // namespace unknot::UNKNOT_VARIANT
