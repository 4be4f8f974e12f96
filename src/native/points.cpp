#include "points.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace unknot {

double squared_threshold(double radius) {
  if (!(radius >= 0)) return -1.0;
  double t = radius * radius;
  if (std::isinf(t)) return std::isinf(radius) ? t : std::numeric_limits<double>::max();
  while (std::sqrt(t) > radius) t = std::nextafter(t, 0.0);
  for (double up = std::nextafter(t, HUGE_VAL); std::sqrt(up) <= radius && !std::isinf(up);
       up = std::nextafter(t, HUGE_VAL))
    t = up;
  return t;
}

namespace {

template <class T>
void widen(const Points& p, std::vector<double>& out) {
  const T* x = static_cast<const T*>(p.data);
  out.assign(x, x + p.n * p.d);
}

// Splits [begin, end) at whole words along the widest coordinate until a word is left.
void split(const std::vector<double>& rows, int d, std::vector<int>& order, int begin, int end) {
  if (end - begin <= 64) return;
  int widest = 0;
  double width = -1;
  for (int k = 0; k < d; ++k) {
    double lo = HUGE_VAL, hi = -HUGE_VAL;
    for (int i = begin; i < end; ++i) {
      const double x = rows[static_cast<std::size_t>(order[i]) * d + k];
      lo = std::min(lo, x);
      hi = std::max(hi, x);
    }
    if (hi - lo > width) width = hi - lo, widest = k;
  }
  const int half = (end - begin + 127) / 128 * 64;
  if (half >= end - begin) return;
  const int middle = begin + half;
  std::nth_element(order.begin() + begin, order.begin() + middle, order.begin() + end,
                   [&](int a, int b) {
                     const double x = rows[static_cast<std::size_t>(a) * d + widest];
                     const double y = rows[static_cast<std::size_t>(b) * d + widest];
                     return x < y || (x == y && a < b);
                   });
  split(rows, d, order, begin, middle);
  split(rows, d, order, middle, end);
}

// False when the numbers are too large for single precision, or not finite.
bool add_single(PointTable& t) {
  const int d = t.d;
  std::vector<double> centre(d, 0.0);
  for (int i = 0; i < t.n; ++i)
    for (int k = 0; k < d; ++k) centre[k] += t.rows[static_cast<std::size_t>(i) * d + k];
  for (double& c : centre) c /= t.n;
  t.single.assign(static_cast<std::size_t>(d) * t.padded, 0.0f);
  t.half_norm.assign(t.padded, 0.0f);
  t.greatest_norm = 0;
  constexpr int kStrip = 16;  // one cache line of floats in every column
  std::vector<float> strip(static_cast<std::size_t>(d) * kStrip);
  for (int first = 0; first < t.n; first += kStrip) {
    const int count = std::min(kStrip, t.n - first);
    for (int i = 0; i < count; ++i) {
      const double* x = t.rows.data() + static_cast<std::size_t>(first + i) * d;
      double norm = 0;
      for (int k = 0; k < d; ++k) {
        const double c = x[k] - centre[k];
        norm += c * c;
        strip[static_cast<std::size_t>(k) * kStrip + i] = static_cast<float>(c);
      }
      if (!(norm < 1e30)) return false;
      t.greatest_norm = std::max(t.greatest_norm, norm);
      t.half_norm[first + i] = static_cast<float>(norm / 2);
    }
    for (int k = 0; k < d; ++k)
      std::copy_n(strip.begin() + static_cast<std::ptrdiff_t>(k) * kStrip, count,
                  t.single.begin() + static_cast<std::ptrdiff_t>(k) * t.padded + first);
  }
  return true;
}

void add_columns(PointTable& t) {
  t.columns.resize(static_cast<std::size_t>(t.d) * t.padded);
  for (int i = 0; i < t.padded; ++i) {
    const double* x = t.rows.data() + static_cast<std::size_t>(std::min(i, t.n - 1)) * t.d;
    for (int k = 0; k < t.d; ++k) t.columns[static_cast<std::size_t>(k) * t.padded + i] = x[k];
  }
  const int blocks = t.padded / 64;
  t.box.resize(static_cast<std::size_t>(blocks) * 2 * t.d);
  for (int b = 0; b < blocks; ++b)
    for (int k = 0; k < t.d; ++k) {
      const double* c = t.columns.data() + static_cast<std::size_t>(k) * t.padded + b * 64;
      double lo = c[0], hi = c[0];
      for (int i = 1; i < 64; ++i) lo = std::min(lo, c[i]), hi = std::max(hi, c[i]);
      t.box[(static_cast<std::size_t>(b) * 2) * t.d + k] = lo;
      t.box[(static_cast<std::size_t>(b) * 2 + 1) * t.d + k] = hi;
    }
}

}  // namespace

PointTable make_table(Points p, bool sorted, bool quick) {
  PointTable t;
  t.n = static_cast<int>(p.n);
  t.d = p.d;
  t.padded = (t.n + 63) / 64 * 64;
  std::vector<double> rows;
  p.is_double ? widen<double>(p, rows) : widen<float>(p, rows);
  t.order.resize(t.n);
  std::iota(t.order.begin(), t.order.end(), 0);
  if (sorted && t.d > 0 && t.n > 64) {
    split(rows, t.d, t.order, 0, t.n);
    t.rows.resize(rows.size());
    for (int i = 0; i < t.n; ++i)
      std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(t.order[i]) * t.d, t.d,
                  t.rows.begin() + static_cast<std::ptrdiff_t>(i) * t.d);
  } else {
    t.rows = std::move(rows);
  }
  t.quick = quick && t.n > 1 && t.d > 0 && add_single(t);
  if (!t.quick) add_columns(t);
  return t;
}

}  // namespace unknot
