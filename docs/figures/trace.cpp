// What the engine leaves of a graph after its strong collapse, and after its edge pass: the classes of
// src/native themselves, called as betti_dense does for b2. Compiled and run by engine.py.
//
// stdin: n, m and m pairs of vertices. stdout: one line for each of the two stages, the edges
// left, and what the edge pass has added to b0 - b1 + b2.
#include <cstdio>

#include "eliminate.hpp"

// Nothing interrupts a trace, and it takes as much memory as it likes.
void unknot::Control::check_now() {}

using namespace unknot::UNKNOT_VARIANT;

static void print_edges(const DenseGraph& g, const Buffer<int>& name) {
  Buffer<int> near;
  for (int v = 0; v < g.n(); ++v) {
    if (!g.alive(v)) continue;
    std::printf("%d %d ", name[v], name[v]);  // so that a vertex without edges is named too
    g.neighbours(v, near);
    for (int u : near)
      if (v < u) std::printf("%d %d ", name[v], name[u]);
  }
  std::printf("\n");
}

int main() {
  int n = 0, m = 0, u = 0, v = 0;
  if (std::scanf("%d %d", &n, &m) != 2) return 1;
  const int words = words_for(n);
  Buffer<unknot::Word> rows(static_cast<std::size_t>(n) * words, 0);
  const auto row = [&](int i) { return rows.data() + static_cast<std::size_t>(i) * words; };
  for (int i = 0; i < n; ++i) set_bit(row(i), i);
  for (int e = 0; e < m; ++e) {
    if (std::scanf("%d %d", &u, &v) != 2) return 1;
    set_bit(row(u), v);
    set_bit(row(v), u);
  }
  unknot::Control control;
  const DenseView all{rows.data(), n, words};
  StrongCollapse collapse(all, control);
  const Buffer<unknot::Word>& kept = collapse.run();
  Buffer<int> name;
  for_each_bit(kept.data(), words, [&](int i) { name.push_back(i); });
  int left = 0;
  Buffer<unknot::Word> rest = induced(all, kept.data(), left);
  DenseGraph g(static_cast<Buffer<unknot::Word>&&>(rest), left);
  print_edges(g, name);
  const auto change = Eliminator<DenseGraph>(g, control).run<Rule::contractible>();
  print_edges(g, name);
  std::printf("%lld\n", static_cast<long long>(change));
}
