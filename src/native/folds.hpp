// The folding activations on float32: one pass forward, one pass backward.
//
// Of many inputs that share a result the derivative is not a function of the result. Its missing bit,
// the side of the turn on which the input lay, is kept in the lowest bit of the result's mantissa: the
// result is off by at most one unit in the last place, and backward needs nothing but the result, which
// the next layer keeps anyway. Results that are not finite carry no bit.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// Whole registers: nothing here is memory bound in a net whose tensors are in the cache, and torch's own
// kernels use them too.
#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
#define UNKNOT_WIDE __attribute__((target("prefer-vector-width=512")))
#else
#define UNKNOT_WIDE
#endif

namespace unknot::UNKNOT_VARIANT {

constexpr std::uint32_t kMagnitude = 0x7fffffffu, kInfinity = 0x7f800000u;
constexpr std::int64_t kBlock = 512;  // elements that are done again where one of them is too large

// Sizes are compared as integers: comparisons of floats would cost NaN its own branch.
static std::uint32_t bits_of(float v) { return std::bit_cast<std::uint32_t>(v); }
// Signed, because old machines compare no other integers.
static std::int32_t size_of(float v) { return static_cast<std::int32_t>(bits_of(v) & kMagnitude); }

// a b + c, rounded once where the machine can: half the instructions of a polynomial.
static float madd(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// x - (1 + slope) softshrink(x, turn), kFinite: known to be finite; bit 0: |x| > turn.
template <bool kFinite>
static std::uint32_t zfold_of(float x, float slope, std::uint32_t peak, std::int32_t turn) {
  const std::uint32_t in = bits_of(x);
  const bool outside = size_of(x) > turn;
  const std::uint32_t out =
      outside ? bits_of(std::bit_cast<float>(peak ^ (in & ~kMagnitude)) - slope * x) : in;
  const std::uint32_t marked = outside ? out | 1u : out & ~1u;
  return kFinite || (out & kMagnitude) < kInfinity ? marked : out;
}

UNKNOT_WIDE static void zfold(const float* x, float* y, std::int64_t n, float slope, float turn) {
  const float peak = (1 + slope) * std::abs(turn);
  const std::uint32_t peak_bits = bits_of(peak);
  const std::int32_t turn_size = size_of(turn);
  // No result of an input below it overflows.
  constexpr float kQuarter = std::numeric_limits<float>::max() / 4;
  const std::int32_t limit =
      std::abs(peak) < kQuarter ? size_of(kQuarter / std::max(1.0f, std::abs(slope))) : 0;
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t end = std::min(n, start + kBlock);
    std::int32_t largest = 0;
    for (std::int64_t i = start; i < end; ++i) {
      largest = std::max(largest, size_of(x[i]));
      y[i] = std::bit_cast<float>(zfold_of<true>(x[i], slope, peak_bits, turn_size));
    }
    if (largest < limit) continue;
    for (std::int64_t i = start; i < end; ++i)
      y[i] = std::bit_cast<float>(zfold_of<false>(x[i], slope, peak_bits, turn_size));
  }
}

UNKNOT_WIDE static void zfold_backward(const float* grad, const float* y, float* out, std::int64_t n,
                                       float slope) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float flat = grad[i], steep = -slope * flat;
    out[i] = (bits_of(y[i]) & 1u) ? steep : flat;
  }
}

constexpr float kPhase = 0.785398163f;
constexpr float kReach = 8192;  // radians; beyond it pi in three floats is not pi enough

// (sin(v) + height) / w, v = w x - pi / 4; bit 0: cos(v) < 0.
static void qfold_far(const float* x, float* y, std::int64_t n, float w, float height) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double v = static_cast<double>(w * x[i] - kPhase);
    const double raised = std::sin(v) + static_cast<double>(height);
    const float f = static_cast<float>(raised / static_cast<double>(w));
    y[i] = std::bit_cast<float>((bits_of(f) & ~1u) | (std::cos(v) < 0 ? 1u : 0u));
  }
}

UNKNOT_WIDE static void qfold(const float* x, float* y, std::int64_t n, float w, float height) {
  constexpr float kRound = 12582912;  // 1.5 * 2^23: adding it rounds to a whole number
  const float scale = 1 / w;
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t end = std::min(n, start + kBlock);
    std::int32_t largest = 0;
    for (std::int64_t i = start; i < end; ++i) {
      const float v = w * x[i] - kPhase;
      largest = std::max(largest, size_of(v));
      // v = q pi + r, |r| <= pi / 2: sin v = (-1)^q sin r.
      const float shifted = madd(v, 0.318309886f, kRound), q = shifted - kRound;
      const std::uint32_t odd = bits_of(shifted) & 1u;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
      const float r = madd(q, 8.74227766e-8f, madd(q, -3.14159274f, v));  // pi in two floats
#else
      const float r = ((v - q * 3.140625f) - q * 9.67502594e-4f) - q * 1.50995799e-7f;
#endif
      const float s = r * r;
      // Taylor's coefficients, bent to be best over the whole interval (as in DirectXMath).
      const float tail =
          madd(s, madd(s, madd(s, -2.3889859e-8f, 2.7525562e-6f), -1.9840874e-4f), 8.3333310e-3f);
      const float sine = madd(r * s, madd(s, tail, -1.6666667e-1f), r);
      const float f = (std::bit_cast<float>(bits_of(sine) ^ (odd << 31)) + height) * scale;
      y[i] = std::bit_cast<float>((bits_of(f) & ~1u) | odd);
    }
    if (largest > size_of(kReach)) qfold_far(x + start, y + start, end - start, w, height);
  }
}

// cos(v) = +-sqrt(1 - sin(v)^2); not zero, so that it can be divided by. `_Cosine` in fused.py takes the
// same operations on the same floats.
UNKNOT_WIDE static void qfold_backward(const float* grad, const float* y, float* out, std::int64_t n,
                                       float w, float height) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t u = bits_of(y[i]);
    const float sine = w * y[i] - height, rest = (1 - sine) * (1 + sine);
    const std::uint32_t least = bits_of(1e-12f), size = bits_of(rest);
    // A negative rest has its highest bit set, hence the comparison of signed integers.
    const bool tiny = static_cast<std::int32_t>(size) < static_cast<std::int32_t>(least);
    const float cosine = std::sqrt(std::bit_cast<float>(tiny ? least : size));
    out[i] = std::bit_cast<float>(bits_of(cosine * grad[i]) ^ (u << 31));
  }
}

}  // namespace unknot::UNKNOT_VARIANT
