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

template <typename Real>
double squared_distance(const Real* a, const Real* b, std::size_t d) {
  double sum = 0.0;
  for (std::size_t f = 0; f < d; ++f) {
    const double difference = static_cast<double>(a[f]) - static_cast<double>(b[f]);
    sum += difference * difference;
  }
  return sum;
}

void set_bit(std::uint64_t* rows, std::size_t words, std::size_t i, std::size_t j) {
  rows[i * words + j / 64] |= std::uint64_t{1} << (j % 64);
}

// Fills rows from joined(i, j), asked once for each pair i < j.
template <typename Joined>
void fill_rows(std::size_t n, std::uint64_t* rows, Joined joined) {
  const std::size_t words = words_for(n);
  std::fill(rows, rows + n * words, std::uint64_t{0});
  for (std::size_t i = 0; i < n; ++i) {
    set_bit(rows, words, i, i);
    for (std::size_t j = i + 1; j < n; ++j) {
      if (joined(i, j)) {
        set_bit(rows, words, i, j);
        set_bit(rows, words, j, i);
      }
    }
  }
}

}  // namespace

template <typename Real>
void rows_from_points(const Real* points, std::size_t n, std::size_t d, double radius, std::uint64_t* rows) {
  const double limit = squared_limit(radius);
  fill_rows(n, rows, [=](std::size_t i, std::size_t j) {
    return squared_distance(points + i * d, points + j * d, d) <= limit;
  });
}

template <typename Real>
void rows_from_distances(const Real* distances, std::size_t n, double radius, std::uint64_t* rows) {
  fill_rows(n, rows, [=](std::size_t i, std::size_t j) {
    return static_cast<double>(distances[i * n + j]) <= radius;
  });
}

template <typename Real>
void nearest_neighbors(const Real* points, std::size_t n, std::size_t d, std::size_t k, std::int64_t* nearest) {
  std::vector<std::pair<double, std::int64_t>> others(n - 1);
  for (std::size_t i = 0; i < n; ++i) {
    std::size_t at = 0;
    for (std::size_t j = 0; j < n; ++j) {
      if (j == i) continue;
      others[at++] = {squared_distance(points + i * d, points + j * d, d), static_cast<std::int64_t>(j)};
    }
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
