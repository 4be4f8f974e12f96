#include "points.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace unknot {

struct SpareLines {
  static constexpr std::size_t kMost = (4 << 20) / sizeof(Lines::Line);
  Lines kept[2];

  // The smaller of the two that suffices.
  void take(std::size_t count, Lines& out) {
    const bool first = kept[0].count_ >= count, second = kept[1].count_ >= count;
    if (!first && !second) return;
    const int which = first && (!second || kept[0].count_ <= kept[1].count_) ? 0 : 1;
    out = std::move(kept[which]);
  }
  void keep(Lines& in) {
    Lines& smaller = kept[kept[0].count_ <= kept[1].count_ ? 0 : 1];
    if (in.count_ > kMost || in.count_ <= smaller.count_) return;
    std::swap(smaller.lines_, in.lines_);
    std::swap(smaller.count_, in.count_);
  }
};

namespace {
// Null once the thread is ending, when what is left goes back to the system.
thread_local SpareLines* spare_lines = nullptr;
struct SpareOwner {
  SpareLines lines;
  SpareOwner() { spare_lines = &lines; }
  ~SpareOwner() { spare_lines = nullptr; }
};
}  // namespace

Lines::Lines(std::size_t floats) {
  thread_local SpareOwner owner;
  const std::size_t count = (floats + 15) / 16;
  if (spare_lines) spare_lines->take(count, *this);
  if (count_ >= count) return;
  lines_.reset(new Line[count]);
  count_ = count;
}

Lines::~Lines() {
  if (lines_ && spare_lines) spare_lines->keep(*this);
}

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

double unit_for(double radius) {
  if (!(radius >= 0) || std::isinf(radius) || (radius > 0x1p-400 && radius < 0x1p400)) return 1;
  const int exponent = radius > 0 ? -std::ilogb(radius) : 1023;
  return std::ldexp(1.0, std::clamp(exponent, -1000, 1023));
}

namespace {

// Splits [begin, end) at whole words along the widest coordinate until a word is left.
template <class T>
void split(const T* rows, int d, std::vector<int>& order, int begin, int end) {
  if (end - begin <= 64) return;
  std::vector<T> lo(rows + static_cast<std::size_t>(order[begin]) * d,
                    rows + static_cast<std::size_t>(order[begin] + 1) * d), hi = lo;
  for (int i = begin; i < end; ++i) {
    const T* x = rows + static_cast<std::size_t>(order[i]) * d;
    for (int k = 0; k < d; ++k) {
      lo[k] = std::min(lo[k], x[k]);
      hi[k] = std::max(hi[k], x[k]);
    }
  }
  int widest = 0;
  for (int k = 1; k < d; ++k)
    if (static_cast<double>(hi[k]) - lo[k] > static_cast<double>(hi[widest]) - lo[widest]) widest = k;
  const int half = (end - begin + 127) / 128 * 64;
  if (half >= end - begin) return;
  const int middle = begin + half;
  std::nth_element(order.begin() + begin, order.begin() + middle, order.begin() + end,
                   [&](int a, int b) {
                     const T x = rows[static_cast<std::size_t>(a) * d + widest];
                     const T y = rows[static_cast<std::size_t>(b) * d + widest];
                     return x < y || (x == y && a < b);
                   });
  split(rows, d, order, begin, middle);
  split(rows, d, order, middle, end);
}

// A point amid the others, for numbers as small as can be: the mean of the nearer half of some, near
// to the mean of them all. Without the half a single stray point would draw the centre away.
template <class T>
std::vector<T> centre_of(const PointTable& t, const T* x) {
  constexpr int kSome = 32;
  const int d = t.d, step = (t.n + kSome - 1) / kSome;
  std::vector<std::pair<double, const T*>> some;
  for (int i = 0; i < t.n; i += step) some.emplace_back(0.0, x + static_cast<std::size_t>(i) * d);
  std::vector<double> centre(d);
  auto mean = [&] {
    std::fill(centre.begin(), centre.end(), 0.0);
    for (const auto& [far, y] : some)
      for (int k = 0; k < d; ++k) centre[k] += y[k];
    for (double& c : centre) c /= static_cast<double>(some.size());
  };
  mean();
  for (auto& [far, y] : some) {
    for (int k = 0; k < d; ++k) far += (y[k] - centre[k]) * (y[k] - centre[k]);
    if (!(far < HUGE_VAL)) far = HUGE_VAL;  // sort needs numbers
  }
  std::sort(some.begin(), some.end(), [](auto& a, auto& b) { return a.first < b.first; });
  some.resize((some.size() + 1) / 2);
  mean();
  return std::vector<T>(centre.begin(), centre.end());
}

// Fills lines with (x - centre) * scale, and norm with the squared norms of what was filled in: sums
// of squares of floats in float64. Both roundings, that of the difference and that to single, are
// relative to x - centre, however far from the origin x lies.
template <class T>
void fill_lines(PointTable& t, const T* x, const T* centre, double scale, double* norm) {
  constexpr int kStrip = 16, kChunk = 256;  // 16 points: one cache line of every column
  alignas(64) float strip[kStrip][kChunk];
  const int d = t.d;
  float* panel = t.lines.data();
  std::fill_n(norm, t.padded, 0.0);
  for (int first = 0; first < t.padded; first += kStrip) {
    const int count = std::max(0, std::min(kStrip, t.n - first));
    float* to = panel + static_cast<std::size_t>(first / 64) * d * 64 + first % 64;
    for (int begin = 0; begin < d; begin += kChunk) {
      const int width = std::min(kChunk, d - begin);
      for (int i = 0; i < count; ++i) {
        const T* row = x + static_cast<std::size_t>(t.order[first + i]) * d + begin;
        const T* c = centre + begin;
        float* out = strip[i];
        if (scale == 1)
          for (int k = 0; k < width; ++k) out[k] = static_cast<float>(row[k] - c[k]);
        else
          for (int k = 0; k < width; ++k)
            out[k] = static_cast<float>(static_cast<double>(row[k] - c[k]) * scale);
        int k = 0;
        double lanes[8] = {};
        for (; k + 8 <= width; k += 8)
          for (int l = 0; l < 8; ++l) lanes[l] += static_cast<double>(out[k + l]) * out[k + l];
        for (; k < width; ++k) lanes[0] += static_cast<double>(out[k]) * out[k];
        for (double lane : lanes) norm[first + i] += lane;
      }
      for (int i = count; i < kStrip; ++i) std::fill_n(strip[i], width, 0.0f);
      for (int k = 0; k < width; ++k, to += 64)
        for (int i = 0; i < kStrip; ++i) to[i] = strip[i][k];
    }
  }
}

// The power of two that brings the greatest coordinate near 1; 0 where there is none.
template <class T>
double unit_scale(const PointTable& t, const T* x, const T* centre) {
  double reach = 0;
  for (int i = 0; i < t.n; ++i)
    for (int k = 0; k < t.d; ++k) {
      const double c = std::abs(static_cast<double>(x[static_cast<std::size_t>(i) * t.d + k] - centre[k]));
      if (!(c <= reach)) reach = c;  // also when c is not a number
    }
  return reach > 0 && std::isfinite(reach) ? std::ldexp(1.0, -std::ilogb(reach)) : 0;
}

// False when single precision cannot help: numbers too large, or all the same.
template <class T>
bool add_single(PointTable& t, const T* x, Use use) {
  const std::vector<T> centre = centre_of(t, x);
  t.lines = Lines(static_cast<std::size_t>(t.d) * t.padded);
  std::vector<double> norm(t.padded);
  double &scale = t.scale, &tiny = t.tiny, greatest_norm = 0;
  auto fill = [&] {
    fill_lines(t, x, centre.data(), scale, norm.data());
    greatest_norm = 0;
    for (double s : norm)
      if (!(s <= greatest_norm)) greatest_norm = s;
  };
  fill();
  if (!(greatest_norm > 0x1p-40 && greatest_norm < 0x1p80)) {
    scale = unit_scale(t, x, centre.data());
    if (scale == 0) return false;
    fill();
  }
  // And float64 itself must not overflow.
  tiny = t.d * ((1 + std::sqrt(greatest_norm)) * 0x1p-120 + 0x1p-1020 * scale * scale);
  if (!(tiny < greatest_norm) || !(greatest_norm / scale / scale < 1e307)) return false;
  if (use == Use::nearest) {
    t.high_norm.assign(t.padded, HUGE_VALF);
    t.low_norm.assign(t.padded, HUGE_VALF);
    const double c = shortlist_error(t.d);
    for (int i = 0; i < t.n; ++i) {
      t.high_norm[i] = static_cast<float>(norm[i] / 2 * (1 + c) + tiny);
      t.low_norm[i] = static_cast<float>(norm[i] / 2 * (1 - c) - tiny);
    }
    return true;
  }
  t.half_norm.resize(t.padded);
  for (int i = 0; i < t.padded; ++i) t.half_norm[i] = static_cast<float>(norm[i] / 2);
  return true;
}

void add_columns(PointTable& t) {
  t.columns.resize(static_cast<std::size_t>(t.d) * t.padded);
  for (int i = 0; i < t.padded; ++i) {
    const double* x = t.rows.data() + static_cast<std::size_t>(std::min(i, t.n - 1)) * t.d;
    for (int k = 0; k < t.d; ++k) t.columns[static_cast<std::size_t>(k) * t.padded + i] = x[k];
  }
}

template <class T>
void add_boxes(PointTable& t, const T* x) {
  const int d = t.d;
  t.box.resize(static_cast<std::size_t>(t.padded / 64) * 2 * d);
  for (int i = 0; i < t.n; ++i) {
    const T* row = x + static_cast<std::size_t>(t.order[i]) * d;
    double* lo = t.box.data() + static_cast<std::size_t>(i / 64) * 2 * d;
    double* hi = lo + d;
    if (i % 64 == 0) {
      std::copy_n(row, d, lo);
      std::copy_n(row, d, hi);
    }
    for (int k = 0; k < d; ++k) {
      lo[k] = std::min<double>(lo[k], row[k]);
      hi[k] = std::max<double>(hi[k], row[k]);
    }
  }
}

template <class T>
void fill_table(PointTable& t, const T* x, bool sorted, Use use) {
  sorted = sorted && t.d > 0 && t.n > 64;
  if (sorted) split(x, t.d, t.order, 0, t.n);
  t.quick = use != Use::exact && t.n > 1 && t.d > 0 && add_single(t, x, use);
  if (!t.quick || (sorted && use == Use::nearest)) add_boxes(t, x);
  if (t.quick) return;
  t.lines = Lines();
  t.rows.resize(static_cast<std::size_t>(t.n) * t.d);
  for (int i = 0; i < t.n; ++i)
    std::copy_n(x + static_cast<std::size_t>(t.order[i]) * t.d, t.d,
                t.rows.begin() + static_cast<std::ptrdiff_t>(i) * t.d);
  add_columns(t);
}

}  // namespace

PointTable make_table(Points p, bool sorted, Use use) {
  PointTable t;
  t.n = static_cast<int>(p.n);
  t.d = p.d;
  t.padded = (t.n + 63) / 64 * 64;
  t.source = p;
  t.order.resize(t.n);
  std::iota(t.order.begin(), t.order.end(), 0);
  if (p.is_double)
    fill_table(t, static_cast<const double*>(p.data), sorted, use);
  else
    fill_table(t, static_cast<const float*>(p.data), sorted, use);
  return t;
}

PointTable make_table(Points p, bool sorted, double radius) {
  const double unit = unit_for(radius);
  const bool quick = p.d >= 6 && unit == 1;
  PointTable t = make_table(p, sorted, quick ? Use::threshold : Use::exact);
  t.unit = unit;
  return t;
}

}  // namespace unknot
