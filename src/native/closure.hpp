// b1 from the first cohomology: functions f on the edges, into GF(2), that sum to zero around every
// triangle, up to coboundaries. One representative of each class is zero on a spanning forest, so
//
//     b1 = dimension of the f with f = 0 on the forest and f(uv) + f(vw) + f(uw) = 0.
//
// Closing the forest under "two edges of a triangle are zero, hence the third" settles most edges,
// with whole rows at a time and no triangle listed. Edges at one vertex whose other ends are joined
// by zero edges have equal values; what is left are a few classes and equations between three of
// them, and b1 = classes - rank.
#pragma once

#include "cohomology.hpp"

namespace unknot::UNKNOT_VARIANT {

class Closure {
 public:
  Closure(DenseView g, Control& control)
      : g_(g), control_(control), zero_(static_cast<std::size_t>(g.n) * g.words, 0),
        used_(static_cast<std::size_t>(g.n) * g.words, 0), low_(g.n), high_(g.n),
        open_(g.n), list_(g.n) {}

  // Components and b1; false when the equations left are too many for this method.
  bool run(std::int64_t& b0, std::int64_t& b1) {
    b0 = grow_forest();
    for (;;) {
      close();
      number_unknowns();
      if (unknowns_ == 0) {
        b1 = 0;
        return true;
      }
      join_at_vertices();
      if (!list_equations()) return false;
      if (!settle_zero_classes()) break;
    }
    b1 = classes() - rank();
    return true;
  }

 private:
  Word* zero(int v) { return zero_.data() + static_cast<std::size_t>(v) * g_.words; }
  Word* used(int v) { return used_.data() + static_cast<std::size_t>(v) * g_.words; }

  void set_zero(int u, int v) {
    set_bit(zero(u), v);
    set_bit(zero(v), u);
    --open_[u];
    --open_[v];
  }

  // Breadth first, each component from a vertex of highest degree: its star settles the most.
  std::int64_t grow_forest() {
    Buffer<int> order(g_.n), start(static_cast<std::size_t>(g_.n) + 2, 0), queue;
    for (int v = 0; v < g_.n; ++v) {
      int degree = -1, lo = g_.words, hi = 0;
      for (int k = 0; k < g_.words; ++k)
        if (g_.row(v)[k]) {
          degree += count_bits(g_.row(v)[k]);
          lo = k < lo ? k : lo;
          hi = k + 1;
        }
      low_[v] = lo;
      high_[v] = hi;
      open_[v] = degree;
      ++start[g_.n - degree];
    }
    for (int k = 0; k <= g_.n; ++k) start[k + 1] += start[k];
    for (int v = 0; v < g_.n; ++v) order[start[g_.n - open_[v] - 1]++] = v;
    Buffer<Word> left(g_.words, 0);
    fill_ones(left.data(), g_.n);
    std::int64_t b0 = 0;
    for (int root : order) {
      if (!has_bit(left.data(), root)) continue;
      ++b0;
      clear_bit(left.data(), root);
      queue.clear();
      queue.push_back(root);
      for (std::size_t i = 0; i < queue.size(); ++i) {
        const int u = queue[i];
        set_bit(zero(u), u);  // harmless, and u need not be masked out below
        set_bit(used(u), u);
        for (int k = low_[u]; k < high_[u]; ++k) {
          Word found = g_.row(u)[k] & left[k];
          left[k] &= ~found;
          for (; found; found &= found - 1) {
            const int v = k * 64 + lowest_bit(found);
            set_zero(u, v);
            queue.push_back(v);
          }
        }
      }
      for (int u : queue) list_.push(u);
    }
    return b0;
  }

  // For each zero edge (v, x), once from either end: neighbours of v that x reaches by zero edges.
  void close() {
    while (!list_.empty()) {
      control_.check();
      const int v = list_.pop();
      Word *z = zero(v), *done = used(v);
      const Word* near = g_.row(v);
      const int lo = low_[v], hi = high_[v];
      for (int k = lo; k < hi && open_[v] > 0;) {
        const Word fresh = z[k] & ~done[k];
        if (!fresh) {
          ++k;
          continue;
        }
        const int x = k * 64 + lowest_bit(fresh);
        set_bit(done, x);
        const Word* zx = zero(x);
        Word any = 0;
        for (int j = lo; j < hi; ++j) any |= zx[j] & near[j] & ~z[j];
        if (!any) continue;
        for (int j = lo; j < hi; ++j)
          for (Word found = zx[j] & near[j] & ~z[j]; found; found &= found - 1) {
            const int y = j * 64 + lowest_bit(found);
            set_zero(v, y);
            if (open_[y] > 0) list_.push(y);
            if (j < k) k = j;
          }
      }
    }
  }

  // Unknown edges are numbered by their lesser end.
  void number_unknowns() {
    const int words = g_.words;
    first_.resize(g_.n);
    unknowns_ = 0;
    for (int v = 0; v < g_.n; ++v) {
      first_[v] = unknowns_;
      if (open_[v] == 0) continue;
      for (int k = v >> 6; k < words; ++k) unknowns_ += count_bits(unknown_above(v, k));
    }
    parent_.resize(unknowns_);
    for (int e = 0; e < unknowns_; ++e) parent_[e] = e;
  }
  // Word k of the unknown edges at v; the same, to greater vertices only.
  Word unknown(int v, int k) const {
    const std::size_t at = static_cast<std::size_t>(v) * g_.words + k;
    return g_.rows[at] & ~zero_[at];
  }
  Word unknown_above(int v, int k) const {
    return k == v >> 6 ? unknown(v, k) & (~Word{1} << (v & 63)) : unknown(v, k);
  }

  int number(int u, int v) {
    if (u > v) {
      const int t = u;
      u = v;
      v = t;
    }
    int e = first_[u];
    for (int k = u >> 6; k <= v >> 6; ++k) {
      Word x = unknown_above(u, k);
      if (k == v >> 6) x &= (Word{1} << (v & 63)) - 1;
      e += count_bits(x);
    }
    return e;
  }
  int find(int e) {
    while (parent_[e] != e) e = parent_[e] = parent_[parent_[e]];
    return e;
  }
  void join(int a, int b) { parent_[find(a)] = find(b); }

  // At each vertex: other ends joined by zero edges mean equal values.
  void join_at_vertices() {
    const int words = g_.words;
    Buffer<Word> left(words);
    Buffer<int> stack;
    for (int v = 0; v < g_.n; ++v) {
      if (open_[v] == 0) continue;
      control_.check();
      for (int k = 0; k < words; ++k) left[k] = unknown(v, k);
      for (int k = 0; k < words; ++k)
        while (left[k]) {
          const int root = k * 64 + lowest_bit(left[k]), e = number(v, root);
          clear_bit(left.data(), root);
          stack.push_back(root);
          while (!stack.empty()) {
            const Word* z = zero(stack[stack.size() - 1]);
            stack.resize(stack.size() - 1);
            for (int j = k; j < words; ++j) {
              Word found = z[j] & left[j];
              left[j] &= ~found;
              for (; found; found &= found - 1) {
                stack.push_back(j * 64 + lowest_bit(found));
                join(e, number(v, stack[stack.size() - 1]));
              }
            }
          }
        }
    }
  }

  // Triangles of three unknown edges. Two equal classes make the third zero.
  bool list_equations() {
    equations_.clear();
    zero_class_.assign(unknowns_, 0);
    const int words = g_.words;
    for (int u = 0; u < g_.n; ++u) {
      if (open_[u] == 0) continue;
      for (int k = u >> 6; k < words; ++k) {
        for (Word x = unknown_above(u, k); x; x &= x - 1) {
          control_.check();
          const int v = k * 64 + lowest_bit(x);
          for (int j = v >> 6; j < words; ++j) {
            for (Word y = unknown(u, j) & unknown_above(v, j); y; y &= y - 1) {
              const int w = j * 64 + lowest_bit(y);
              const int a = find(number(u, v)), b = find(number(u, w)), c = find(number(v, w));
              if (a == b) {
                zero_class_[c] = 1;
              } else if (a == c) {
                zero_class_[b] = 1;
              } else if (b == c) {
                zero_class_[a] = 1;
              } else {
                equations_.push_back(a);
                equations_.push_back(b);
                equations_.push_back(c);
              }
              if (equations_.size() > 3 * kMostEquations) return false;
            }
          }
        }
      }
    }
    return true;
  }

  // Puts the edges of the classes found zero among the zero edges; false when there were none.
  bool settle_zero_classes() {
    bool any = false;
    for (int e = 0; e < unknowns_ && !any; ++e) any = zero_class_[e];
    if (!any) return false;
    int e = 0;
    for (int u = 0; u < g_.n; ++u)
      for (int k = u >> 6; k < g_.words; ++k)
        for (Word x = unknown_above(u, k); x; x &= x - 1, ++e)
          if (zero_class_[find(e)]) {
            const int v = k * 64 + lowest_bit(x);
            set_zero(u, v);
            list_.push(u);
            list_.push(v);
          }
    return true;
  }

  std::int64_t classes() {
    place_.assign(unknowns_, -1);
    std::int64_t count = 0;
    for (int e = 0; e < unknowns_; ++e)
      if (parent_[e] == e) place_[e] = count++;
    return count;
  }

  struct EquationColumns {
    const Closure& of;
    std::int64_t at(std::int64_t c, int i) const { return of.place_[of.equations_[3 * c + i]]; }
    std::int64_t least(std::int64_t c) const {
      std::int64_t row = at(c, 0);
      if (at(c, 1) < row) row = at(c, 1);
      return at(c, 2) < row ? at(c, 2) : row;
    }
    template <class F>
    void each(std::int64_t c, F f) const {
      for (int i = 0; i < 3; ++i) f(at(c, i));
    }
  };
  std::int64_t rank() {
    Reducer reducer(unknowns_, control_);
    std::int64_t rank = 0;
    for (std::size_t c = 0; c < equations_.size() / 3; ++c) {
      control_.check();
      rank += reducer.add(EquationColumns{*this}, static_cast<std::int64_t>(c));
    }
    return rank;
  }

  static constexpr std::size_t kMostEquations = 1000;

  DenseView g_;
  Control& control_;
  Buffer<Word> zero_, used_;  // edges known to be zero; those already looked along
  Buffer<int> low_, high_;    // the words that hold the neighbours of each vertex
  Buffer<int> open_;          // unknown edges at each vertex
  Worklist list_;
  Buffer<int> first_, parent_, equations_;
  int unknowns_ = 0;
  Buffer<char> zero_class_;
  Buffer<std::int64_t> place_;
};

}  // namespace unknot::UNKNOT_VARIANT
