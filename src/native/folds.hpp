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

namespace unknot::UNKNOT_VARIANT {

constexpr std::uint32_t kMagnitude = 0x7fffffffu, kInfinity = 0x7f800000u;

// Sizes are compared as integers: comparisons of floats would cost NaN its own branch.
static std::uint32_t bits_of(float v) { return std::bit_cast<std::uint32_t>(v); }

// x - (1 + slope) softshrink(x, turn); bit 0: |x| > turn.
static void zfold(const float* x, float* y, std::int64_t n, float slope, float turn) {
  const float peak = (1 + slope) * turn;
  const std::uint32_t turn_bits = bits_of(turn);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t in = bits_of(x[i]), size = in & kMagnitude;
    const float top = std::bit_cast<float>(bits_of(peak) | (in & ~kMagnitude));
    const bool outside = size > turn_bits;
    const std::uint32_t out = outside ? bits_of(top - slope * x[i]) : in;
    const std::uint32_t marked = (out & ~1u) | static_cast<std::uint32_t>(outside);
    y[i] = std::bit_cast<float>((out & kMagnitude) < kInfinity ? marked : out);
  }
}

static void zfold_backward(const float* grad, const float* y, float* out, std::int64_t n, float slope) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float flat = grad[i], steep = -slope * flat;
    out[i] = (bits_of(y[i]) & 1u) ? steep : flat;
  }
}

constexpr float kPhase = 0.785398163f, kSinPhase = 0.707106781f;
constexpr float kReach = 8192;  // radians; beyond it pi in three floats is not pi enough

// (sin(v) + sin(pi / 4)) / w, v = w x - pi / 4; bit 0: cos(v) < 0.
static void qfold_far(const float* x, float* y, std::int64_t n, float w) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double v = static_cast<double>(w * x[i] - kPhase);
    const float f = static_cast<float>((std::sin(v) + 0.70710678118654752) / static_cast<double>(w));
    y[i] = std::bit_cast<float>((bits_of(f) & ~1u) | (std::cos(v) < 0 ? 1u : 0u));
  }
}

static void qfold(const float* x, float* y, std::int64_t n, float w) {
  constexpr std::int64_t kBlock = 512;
  constexpr float kRound = 12582912;  // 1.5 * 2^23: adding it rounds to a whole number
  const float scale = 1 / w;
  for (std::int64_t start = 0; start < n; start += kBlock) {
    const std::int64_t end = std::min(n, start + kBlock);
    std::uint32_t largest = 0;
    for (std::int64_t i = start; i < end; ++i) {
      const float v = w * x[i] - kPhase;
      largest = std::max(largest, bits_of(v) & kMagnitude);
      // v = q pi + r, |r| <= pi / 2: sin v = (-1)^q sin r.
      const float shifted = v * 0.318309886f + kRound, q = shifted - kRound;
      const std::uint32_t odd = bits_of(shifted) & 1u;
      const float r = ((v - q * 3.140625f) - q * 9.67502594e-4f) - q * 1.50995799e-7f;
      const float s = r * r;
      // Taylor's coefficients, bent to be best over the whole interval (as in DirectXMath).
      const float tail = 8.3333310e-3f + s * (-1.9840874e-4f + s * (2.7525562e-6f + s * -2.3889859e-8f));
      const float sine = r + r * s * (-1.6666667e-1f + s * tail);
      const float f = (std::bit_cast<float>(bits_of(sine) ^ (odd << 31)) + kSinPhase) * scale;
      y[i] = std::bit_cast<float>((bits_of(f) & ~1u) | odd);
    }
    if (largest > bits_of(kReach)) qfold_far(x + start, y + start, end - start, w);
  }
}

// cos(v) = +-sqrt(1 - sin(v)^2); not zero, so that it can be divided by.
static void qfold_backward(const float* grad, const float* y, float* out, std::int64_t n, float w) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t u = bits_of(y[i]);
    const float sine = w * y[i] - kSinPhase, rest = (1 - sine) * (1 + sine);
    const std::uint32_t least = bits_of(1e-12f), size = bits_of(rest);
    // A negative rest has its highest bit set, hence the comparison of signed integers.
    const bool tiny = static_cast<std::int32_t>(size) < static_cast<std::int32_t>(least);
    const float cosine = std::sqrt(std::bit_cast<float>(tiny ? least : size));
    out[i] = std::bit_cast<float>(bits_of(cosine * grad[i]) ^ (u << 31));
  }
}

}  // namespace unknot::UNKNOT_VARIANT
