// From a graph to its Betti numbers: collapse, eliminate, cohomology of the rest.
#pragma once

#include "closure.hpp"
#include "eliminate.hpp"
#include "variant.hpp"

namespace unknot::UNKNOT_VARIANT {

// Adds A_1 and, for q = 2, A_2 of what is left of a graph, one component at a time, vertices of high
// degree first. False when one component has more than `most` tetrahedra; the sums are void then.
template <class Graph>
bool add_core(const Graph& g, int q, std::int64_t most, Control& control, std::int64_t* a1,
              std::int64_t* a2) {
  const Buffer<int> degree = g.degrees();
  Buffer<int> place(g.n(), -1), members, near, start;
  for (int root = 0; root < g.n(); ++root) {
    if (!g.alive(root) || place[root] >= 0) continue;
    members.clear();
    members.push_back(root);
    place[root] = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
      g.neighbours(members[i], near);
      for (int u : near)
        if (place[u] < 0) {
          place[u] = 0;
          members.push_back(u);
        }
    }
    const int n = static_cast<int>(members.size()), words = words_for(n);
    int top = 0;
    for (int v : members) top = degree[v] > top ? degree[v] : top;
    start.assign(static_cast<std::size_t>(top) + 2, 0);
    for (int v : members) ++start[top - degree[v] + 1];
    for (int k = 0; k <= top; ++k) start[k + 1] += start[k];
    for (int v : members) place[v] = start[top - degree[v]]++;
    control.need(static_cast<std::size_t>(n) * words * sizeof(Word), "the packed rows of the core");
    Buffer<Word> rows(static_cast<std::size_t>(n) * words, 0);
    for (int v : members) {
      Word* r = rows.data() + static_cast<std::size_t>(place[v]) * words;
      set_bit(r, place[v]);
      g.neighbours(v, near);
      for (int u : near) set_bit(r, place[u]);
    }
    if (!Cohomology({rows.data(), n, words}, control).add(q, most, a1, a2)) return false;
  }
  return true;
}

// Up to here cohomology is quicker than a second round of elimination.
constexpr std::int64_t kFewTetrahedra = 3000000;

// Takes the graph apart. b0 is known; sets b1 and, when asked, b2.
template <class Graph>
void take_apart(Graph& g, int max_dim, Control& control, std::int64_t* betti) {
  if (max_dim == 1) {
    std::int64_t a1 = Eliminator<Graph>(g, control).template run<Rule::first>();
    add_core(g, 1, Cohomology::kNoLimit, control, &a1, nullptr);
    betti[1] = betti[0] - a1;
    return;
  }
  const std::int64_t shared = Eliminator<Graph>(g, control).template run<Rule::contractible>();
  std::int64_t a1 = shared, a2 = shared;
  if (!add_core(g, 2, kFewTetrahedra, control, &a1, &a2)) {
    Graph copy(g);
    a1 = shared + Eliminator<Graph>(copy, control).template run<Rule::first>();
    add_core(copy, 1, Cohomology::kNoLimit, control, &a1, nullptr);
    a2 = shared + Eliminator<Graph>(g, control).template run<Rule::second>();
    std::int64_t unused = 0;
    add_core(g, 2, Cohomology::kNoLimit, control, &unused, &a2);
  }
  betti[1] = betti[0] - a1;
  betti[2] = a2 - a1;  // A_2 - b0 + b1
}

// Below, the closure alone is quicker than a collapse before it.
constexpr int kCollapseFrom = 1024;

// Mean number of set bits a row, 1 + the mean degree.
inline double mean_bits(DenseView g) {
  std::int64_t bits = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(g.n) * g.words; ++i)
    bits += count_bits(g.rows[i]);
  return static_cast<double>(bits) / g.n;
}

// The closure on the rows `spare`, or where there are none on a copy of g.
inline bool close_up(DenseView g, Word* spare, Control& control, std::int64_t* betti) {
  Buffer<Word> copy;
  if (!spare) {
    copy.resize(static_cast<std::size_t>(g.n) * g.words);
    for (std::size_t i = 0; i < copy.size(); ++i) copy[i] = g.rows[i];
    spare = copy.data();
  }
  Closure closure(spare, g.n, control);
  const bool done = closure.run(betti[0], betti[1]);
  if (!done) closure.restore();
  return done;
}

// spare: rows itself where it may be overwritten, else null.
inline void betti_dense(const Word* rows, Word* spare, int n, int max_dim, Control& control,
                        std::int64_t* betti) {
  betti[0] = betti[1] = betti[2] = 0;
  if (n == 0) return;
  const DenseView all{rows, n, words_for(n)};
  if (max_dim == 0) {
    betti[0] = count_components(all);
    return;
  }
  if (max_dim == 1 && n <= kCollapseFrom && close_up(all, spare, control, betti)) return;
  Buffer<Word> reduced;
  int left = n;
  if (max_dim == 2 && n <= 2048 && mean_bits(all) <= 32) {
    reduced = renumbered(all);  // elimination removes dominated vertices too
  } else {
    StrongCollapse collapse(all, control);
    const Buffer<Word>& kept = collapse.run();
    int count = 0;
    for (Word x : kept) count += count_bits(x);
    // Where the collapse achieves little, a copy of the rows would cost more than it gains.
    if (max_dim == 1 && n > kCollapseFrom && count > n - n / 8 && close_up(all, spare, control, betti))
      return;
    reduced = induced(all, kept.data(), left);
    if (max_dim == 2) reduced = renumbered({reduced.data(), left, words_for(left)});
  }
  const DenseView rest{reduced.data(), left, words_for(left)};
  if (max_dim == 1 && n > kCollapseFrom && left <= n - n / 8 &&
      close_up(rest, reduced.data(), control, betti))
    return;
  betti[0] = count_components(rest);
  DenseGraph g(static_cast<Buffer<Word>&&>(reduced), left);
  take_apart(g, max_dim, control, betti);
}

inline void betti_sparse(const std::int64_t* indptr, const std::int32_t* indices, int n, int max_dim,
                         Control& control, std::int64_t* betti) {
  betti[0] = betti[1] = betti[2] = 0;
  Buffer<Word> left(words_for(n), 0);
  fill_ones(left.data(), n);
  Buffer<int> stack;
  for (int root = 0; root < n; ++root) {
    if (!has_bit(left.data(), root)) continue;
    ++betti[0];
    clear_bit(left.data(), root);
    stack.push_back(root);
    while (!stack.empty()) {
      const int v = stack[stack.size() - 1];
      stack.resize(stack.size() - 1);
      for (std::int64_t t = indptr[v]; t < indptr[v + 1]; ++t)
        if (has_bit(left.data(), indices[t])) {
          clear_bit(left.data(), indices[t]);
          stack.push_back(indices[t]);
        }
    }
  }
  if (max_dim == 0) return;
  SparseGraph g(indptr, indices, n);
  take_apart(g, max_dim, control, betti);
}

}  // namespace unknot::UNKNOT_VARIANT
