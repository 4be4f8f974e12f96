// Strong collapse of a dense graph, without touching its rows.
//
// v is dominated when N[v] is contained in N[w] for another w; removing v keeps the homotopy type
// of the flag complex (Barmak & Minian, "Strong homotopy types, nerves and collapses", 2012).
//
// The test narrows a set of candidates. Take a candidate w: either N[v] - N[w] is empty and w
// dominates, or it holds a witness u, and every dominator must lie in N[u]: intersect. Each round
// costs two passes over the words of N[v] and usually halves the candidates, where and-ing the rows
// of all neighbours would cost deg(v) passes.
#pragma once

#include "bits.hpp"
#include "control.hpp"

namespace unknot::UNKNOT_VARIANT {

struct DenseView {
  const Word* rows;  // n x words, symmetric, each vertex its own neighbour
  int n, words;
  const Word* row(int v) const { return rows + static_cast<std::size_t>(v) * words; }
};

class StrongCollapse {
 public:
  StrongCollapse(DenseView g, Control& control)
      : g_(g), control_(control), alive_(g.words, 0), low_(g.n), high_(g.n), degree_(g.n),
        list_(g.n), row_(g.words), candidates_(g.words) {
    fill_ones(alive_.data(), g.n);
    for (int v = 0; v < g.n; ++v) {
      control.check();
      measure(v);
    }
  }

  // Runs to the fixed point; the survivors are the set bits of the result.
  const Buffer<Word>& run() {
    push_by_degree(list_, degree_);
    while (!list_.empty()) {
      control_.check();
      const int v = list_.pop();
      if (!has_bit(alive_.data(), v) || !dominated(v)) continue;
      clear_bit(alive_.data(), v);
      // row_ still holds N[v] among the living.
      for (int k = low_[v]; k < high_[v]; ++k) {
        Word wake = row_[k] & alive_[k] & ~list_.queued()[k];
        for (; wake; wake &= wake - 1) list_.push(k * 64 + lowest_bit(wake));
      }
    }
    return alive_;
  }

 private:
  void measure(int v) {
    const Word* r = g_.row(v);
    int lo = 0, hi = g_.words, sum = 0;
    while (lo < hi && !r[lo]) ++lo;
    while (hi > lo && !r[hi - 1]) --hi;
    for (int k = lo; k < hi; ++k) sum += count_bits(r[k]);
    low_[v] = lo;
    high_[v] = hi;
    degree_[v] = sum - 1;
  }

  bool dominated(int v) {
    const int lo = low_[v], hi = high_[v];
    const Word* r = g_.row(v);
    Word* row = row_.data();
    Word* cand = candidates_.data();
    const Word* alive = alive_.data();
    for (int k = lo; k < hi; ++k) cand[k] = row[k] = r[k] & alive[k];
    clear_bit(cand, v);
    int from = v >> 6;  // neighbours in number are often neighbours in space
    for (;;) {
      const int w = candidate(lo, hi, from);
      if (w < 0) return false;
      const Word* rw = g_.row(w);
      int witness = -1;
      for (int k = lo; k < hi; ++k)
        if (const Word miss = row[k] & ~rw[k]) {
          witness = k * 64 + lowest_bit(miss);
          break;
        }
      if (witness < 0) return true;
      const Word* ru = g_.row(witness);
      for (int k = lo; k < hi; ++k) cand[k] &= ru[k];
      from = w >> 6;
    }
  }

  int candidate(int lo, int hi, int from) const {
    for (int k = from; k < hi; ++k)
      if (candidates_[k]) return k * 64 + lowest_bit(candidates_[k]);
    for (int k = from - 1; k >= lo; --k)
      if (candidates_[k]) return k * 64 + highest_bit(candidates_[k]);
    return -1;
  }

  DenseView g_;
  Control& control_;
  Buffer<Word> alive_;
  Buffer<int> low_, high_, degree_;
  Worklist list_;
  Buffer<Word> row_, candidates_;
};

// The rows and columns of the vertices set in `keep`.
inline Buffer<Word> induced(DenseView g, const Word* keep, int& n_out) {
  Packer packer;
  packer.set(keep, 0, g.words);
  n_out = packer.bits;
  const int w = words_for(n_out);
  Buffer<Word> out(static_cast<std::size_t>(n_out) * w);
  std::size_t at = 0;
  for_each_bit(keep, g.words, [&](int v) {
    packer.pack(g.row(v), out.data() + at);
    at += w;
  });
  return out;
}

// The same graph numbered breadth first, so that neighbours share words.
inline Buffer<Word> renumbered(DenseView g) {
  Buffer<Word> left(g.words, 0), out(static_cast<std::size_t>(g.n) * g.words, 0);
  fill_ones(left.data(), g.n);
  Buffer<int> order, place(g.n);
  for (int root = 0; root < g.n; ++root) {
    if (!has_bit(left.data(), root)) continue;
    clear_bit(left.data(), root);
    std::size_t i = order.size();
    order.push_back(root);
    for (; i < order.size(); ++i)
      for (int k = 0; k < g.words; ++k) {
        Word found = g.row(order[i])[k] & left[k];
        left[k] &= ~found;
        for (; found; found &= found - 1) order.push_back(k * 64 + lowest_bit(found));
      }
  }
  for (int i = 0; i < g.n; ++i) place[order[i]] = i;
  for (int i = 0; i < g.n; ++i)
    for_each_bit(g.row(order[i]), g.words, [&](int u) {
      set_bit(out.data() + static_cast<std::size_t>(i) * g.words, place[u]);
    });
  return out;
}

// Number of connected components.
inline int count_components(DenseView g) {
  Buffer<Word> left(g.words, 0), front(g.words, 0);
  fill_ones(left.data(), g.n);
  Buffer<int> stack;
  int count = 0;
  for (int k = 0; k < g.words; ++k)
    while (left[k]) {
      ++count;
      const int root = k * 64 + lowest_bit(left[k]);
      clear_bit(left.data(), root);
      stack.push_back(root);
      while (!stack.empty()) {
        const Word* r = g.row(stack[stack.size() - 1]);
        stack.resize(stack.size() - 1);
        for (int j = k; j < g.words; ++j) {
          Word found = r[j] & left[j];
          left[j] &= ~found;
          for (; found; found &= found - 1) stack.push_back(j * 64 + lowest_bit(found));
        }
      }
    }
  return count;
}

}  // namespace unknot::UNKNOT_VARIANT
