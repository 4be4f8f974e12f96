#include "neighbors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace unknot {
namespace {

// The largest t with sqrt(t) <= radius. Comparing squares with radius * radius instead would lose ties:
// sqrt(3) * sqrt(3) rounds to less than 3, though two points at squared distance 3 are sqrt(3) apart.
double squared_limit(double radius) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (radius == infinity) return infinity;
  double t = radius * radius;
  while (std::sqrt(t) > radius) t = std::nextafter(t, 0.0);
  while (t < infinity && std::sqrt(std::nextafter(t, infinity)) <= radius) t = std::nextafter(t, infinity);
  return t;
}

// Squared distances from one point to many. The points are held feature by feature, [d, n] in float64, so
// that the inner loop runs over points: it vectorises, and each sum still adds its features in order.
class Distances {
 public:
  template <typename Real>
  Distances(const Real* points, std::size_t n, std::size_t d) : n_(n), d_(d), features_(n * d) {
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t f = 0; f < d; ++f) features_[f * n + i] = static_cast<double>(points[i * d + f]);
  }

  // squares[j] for j in [from, n).
  void from_point(std::size_t i, std::size_t from, double* squares) const {
    constexpr std::size_t block = 512;  // 4 KB of sums stay in the first-level cache
    for (std::size_t start = from; start < n_; start += block) {
      const std::size_t stop = std::min(n_, start + block);
      std::fill(squares + start, squares + stop, 0.0);
      for (std::size_t f = 0; f < d_; ++f) {
        const double* feature = features_.data() + f * n_;
        const double own = feature[i];
        for (std::size_t j = start; j < stop; ++j) {
          const double difference = own - feature[j];
          squares[j] += difference * difference;
        }
      }
    }
  }

 private:
  std::size_t n_, d_;
  std::vector<double> features_;
};

void set_bit(std::uint64_t* rows, std::size_t words, std::size_t i, std::size_t j) {
  rows[i * words + j / 64] |= std::uint64_t{1} << (j % 64);
}

// Fills rows where values[j] <= limit, the values of each row from values_of(i, values) for j > i.
template <typename ValuesOf>
void fill_rows(std::size_t n, double limit, std::uint64_t* rows, ValuesOf values_of) {
  const std::size_t words = words_for(n);
  std::fill(rows, rows + n * words, std::uint64_t{0});
  std::vector<double> values(n);
  for (std::size_t i = 0; i < n; ++i) {
    set_bit(rows, words, i, i);
    values_of(i, values.data());
    for (std::size_t j = i + 1; j < n; ++j) {
      if (values[j] <= limit) {
        set_bit(rows, words, i, j);
        set_bit(rows, words, j, i);
      }
    }
  }
}

}  // namespace

template <typename Real>
void rows_from_points(const Real* points, std::size_t n, std::size_t d, double radius, std::uint64_t* rows) {
  const Distances distances(points, n, d);
  fill_rows(n, squared_limit(radius), rows, [&](std::size_t i, double* squares) {
    if (i + 1 < n) distances.from_point(i, i + 1, squares);
  });
}

template <typename Real>
void rows_from_distances(const Real* distances, std::size_t n, double radius, std::uint64_t* rows) {
  fill_rows(n, radius, rows, [=](std::size_t i, double* values) {
    std::copy(distances + i * n + i, distances + (i + 1) * n, values + i);
  });
}

template <typename Real>
void nearest_neighbors(const Real* points, std::size_t n, std::size_t d, std::size_t k, std::int64_t* nearest) {
  const Distances distances(points, n, d);
  std::vector<double> squares(n);
  std::vector<std::pair<double, std::int64_t>> others(n - 1);
  for (std::size_t i = 0; i < n; ++i) {
    distances.from_point(i, 0, squares.data());
    std::size_t at = 0;
    for (std::size_t j = 0; j < n; ++j)
      if (j != i) others[at++] = {squares[j], static_cast<std::int64_t>(j)};
    const auto last = others.begin() + static_cast<std::ptrdiff_t>(k);
    std::partial_sort(others.begin(), last, others.end());
    for (std::size_t m = 0; m < k; ++m) nearest[i * k + m] = others[m].second;
  }
}

void expand_hops(const std::uint64_t* rows, std::size_t n, std::size_t hops, std::uint64_t* out) {
  const std::size_t words = words_for(n);
  std::copy(rows, rows + n * words, out);
  std::vector<std::uint64_t> reached(n * words);
  for (std::size_t step = 1; step < hops; ++step) {
    std::copy(out, out + n * words, reached.begin());
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t w = 0; w < words; ++w) {
        for (std::uint64_t bits = rows[i * words + w]; bits != 0; bits &= bits - 1) {
          const std::size_t j = w * 64 + static_cast<std::size_t>(std::countr_zero(bits));
          for (std::size_t v = 0; v < words; ++v) out[i * words + v] |= reached[j * words + v];
        }
      }
    }
  }
}

template void rows_from_points(const float*, std::size_t, std::size_t, double, std::uint64_t*);
template void rows_from_points(const double*, std::size_t, std::size_t, double, std::uint64_t*);
template void rows_from_distances(const float*, std::size_t, double, std::uint64_t*);
template void rows_from_distances(const double*, std::size_t, double, std::uint64_t*);
template void nearest_neighbors(const float*, std::size_t, std::size_t, std::size_t, std::int64_t*);
template void nearest_neighbors(const double*, std::size_t, std::size_t, std::size_t, std::int64_t*);

}  // namespace unknot
