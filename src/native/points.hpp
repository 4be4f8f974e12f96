// A point cloud, laid out for the distance kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace unknot {

// One rule for every path: points are neighbours when the correctly rounded square root of
//   ((x_0 - y_0)^2 + (x_1 - y_1)^2) + ...      summed in float64 from the first coordinate on,
// is <= radius; a given distance when it is <= radius as a float64. Float32 input is widened
// first, which is exact. No fused multiply-add (the build passes -ffp-contract=off), so that every
// instruction set gives the same bits.
//
// sqrt is monotonic, so the rule is sum <= t for the greatest t with sqrt(t) <= radius.
//
// The unit of the points does not matter: where squares near the radius would under- or overflow, the
// differences are multiplied by a power of two first, which changes no digit of them.
double squared_threshold(double radius);

// That power of two: 1 for every radius whose square is well inside the range of float64.
double unit_for(double radius);

struct Points {
  const void* data;
  bool is_double;
  std::int64_t n;
  int d;
};

// Floats on whole cache lines, unset. A thread keeps a few of them (8 MiB at most) for its next cloud:
// for clouds of some hundred points the system takes as long to hand out memory as the distances do.
class Lines {
 public:
  Lines() = default;
  explicit Lines(std::size_t floats);
  Lines(Lines&& o) noexcept { *this = std::move(o); }
  Lines& operator=(Lines&& o) noexcept {
    std::swap(lines_, o.lines_);
    std::swap(count_, o.count_);
    return *this;
  }
  ~Lines();
  float* data() { return reinterpret_cast<float*>(lines_.get()); }
  const float* data() const { return reinterpret_cast<const float*>(lines_.get()); }

 private:
  struct alignas(64) Line {
    float x[16];
  };
  std::unique_ptr<Line[]> lines_;
  std::size_t count_ = 0;
  friend struct SpareLines;
};

struct PointTable {
  int n = 0, d = 0, padded = 0;     // padded: n rounded up to whole words
  std::vector<int> order;           // place -> original number
  Points source{};                  // the caller's, in original order; must outlive the table
  double unit = 1;                  // of unit_for; other than 1 only for quick == false
  // For quick == false, in float64; the padding of the columns repeats the last point.
  std::vector<double> rows;         // [n, d], in place order
  std::vector<double> columns;      // [d, padded]
  // For quick == false, or sorted: least and greatest of each 64 places, in float64.
  std::vector<double> box;          // [blocks, 2, d]
  // For quick == true: centred, in single precision, zero past n. A block's 64 columns lie together,
  // because columns a power of two apart would fall into the same few cache sets.
  bool quick = false;
  double scale = 1;                   // a power of two, by which points are multiplied where their size needs it
  double tiny = 0;                    // what underflow can change, see shortlist.hpp
  Lines lines;                        // [blocks, d, 64]
  // For Use::threshold: half the squared norms, [padded]; zero past n.
  std::vector<float> half_norm;
  // For Use::nearest: the same plus and minus the error bound of shortlist.hpp; infinite past n.
  std::vector<float> high_norm, low_norm;

  const float* single(int block) const {
    return lines.data() + static_cast<std::size_t>(block) * d * 64;
  }
};

// How many single-precision products are added up at a stretch; the sums of up to 16 stretches are then
// added to one another, and so are theirs. Short stretches stay in cache and keep rounding errors small.
constexpr int kStretch = 128, kStretches = 16;

// What single precision may get wrong, in half the sum of two squared norms; shortlist.hpp proves it.
inline double shortlist_error(int d) {
  const int stretches = d / kStretch < kStretches ? d / kStretch : kStretches;
  const int depth = (d < kStretch ? d : kStretch) + stretches + d / (kStretch * kStretches);
  return (1.1 * depth + 16) * 0x1p-24;
}

// What the table is for: float64 alone, or single precision first, where the size of the numbers
// allows it, for a threshold or for nearest neighbours.
enum class Use { exact, threshold, nearest };

// sorted: places follow a k-d tree with leaves of 64, so that neighbours share words.
PointTable make_table(Points points, bool sorted, Use use);

// For the neighbours within a radius: single precision where it pays for so many dimensions.
PointTable make_table(Points points, bool sorted, double radius);

}  // namespace unknot
