// A point cloud, laid out for the distance kernels.
#pragma once

#include <cstdint>
#include <vector>

namespace unknot {

// One rule for every path: points are neighbours when the correctly rounded square root of
//   ((x_0 - y_0)^2 + (x_1 - y_1)^2) + ...      summed in float64 from the first coordinate on,
// is <= radius; a given distance when it is <= radius as a float64. Float32 input is widened
// first, which is exact. No fused multiply-add (the build passes -ffp-contract=off), so that every
// instruction set gives the same bits.
//
// sqrt is monotonic, so the rule is sum <= t for the greatest t with sqrt(t) <= radius.
double squared_threshold(double radius);

struct PointTable {
  int n = 0, d = 0, padded = 0;     // padded: n rounded up to whole words
  std::vector<int> order;           // place -> original number
  std::vector<double> rows;         // [n, d], in place order
  // For quick == false, in float64; the padding repeats the last point.
  std::vector<double> columns;      // [d, padded]
  std::vector<double> box;          // [blocks, 2, d]: least and greatest of each 64 places
  // For quick == true: centred, single precision, with half the squared norms.
  bool quick = false;
  double greatest_norm = 0;         // squared
  std::vector<float> single;        // [d, padded]
  std::vector<float> half_norm;     // [padded]
};

struct Points {
  const void* data;
  bool is_double;
  std::int64_t n;
  int d;
};

// sorted: places follow a k-d tree with leaves of 64, so that neighbours share words.
// quick: single precision first, where the size of the numbers allows it.
PointTable make_table(Points points, bool sorted, bool quick);

// Whether single precision pays for d dimensions and can decide at this squared threshold.
inline bool quick_pays(int d, double limit) { return d >= 6 && limit > 1e-25 && limit < 1e30; }

}  // namespace unknot
