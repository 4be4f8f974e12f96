// What pruning cost: criteria side by side, the refit's error by layer, and what a threshold hangs on.

const LEGEND = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
const share = (v) => `${(100 * v).toFixed(1)}\u00a0%`;
const captioned = (text) => ({ text, font: { size: 12 }, standoff: 6 });

/** Accuracy over the share of MACs that is left, one line a criterion; marks for this pruning. */
function baselines(index) {
  const plot = data.outcomes[index].baselines;
  const traces = plot.lines.map((line, i) => ({
    type: "scatter",
    mode: "lines+markers",
    name: short(line.name, 24),
    x: line.left,
    y: line.accuracy,
    text: line.left.map((left, j) => `<b>${esc(line.name)}</b><br>${share(left)} of the MACs left<br>accuracy ${share(line.accuracy[j])}`),
    hoverinfo: "text",
    line: { color: colour(i), width: i ? 1.5 : 3, dash: i ? "dot" : "solid" },
    marker: { symbol: shape(i)[0], size: i ? 7 : 9, color: colour(i) },
    cliponaxis: false,
  }));
  plot.stages.forEach(([what, accuracy], i) =>
    traces.push({
      type: "scatter",
      mode: "markers",
      name: `this pruning, ${what}`,
      x: [plot.left],
      y: [accuracy],
      text: [`<b>this pruning, ${what}</b><br>${share(plot.left)} of the MACs left<br>accuracy ${share(accuracy)}`],
      hoverinfo: "text",
      marker: { symbol: i ? "star" : "star-open", size: 14, color: css("--ink"), line: { width: 1.5, color: css("--ink") } },
      cliponaxis: false,
    }),
  );
  traces.push({
    type: "scatter",
    mode: "lines",
    name: "before pruning",
    x: [0, 1],
    y: [plot.before, plot.before],
    hoverinfo: "name",
    line: { color: css("--soft"), width: 1.5, dash: "dash" },
  });
  const x = { range: [1.03, 0], tickformat: ".0%", title: captioned("MACs left") };
  const y = { tickformat: ".0%", title: captioned("accuracy on test samples") };
  return [traces, frame(380, x, y, { legend: LEGEND, showlegend: true })];
}

/** The error of each layer's outputs before and after its refit, front to back from the top. */
function refit(index, _, width) {
  const { layers, before, after } = data.outcomes[index].refit;
  // A logarithm has no place for 0, and rounding errors would push everything else together.
  const floor = largest([...before, ...after], 1e-9) / 1e4;
  const at = layers.map((_, i) => i);
  const text = at.map((i) => `<b>${esc(layers[i])}</b><br>before ${before[i].toPrecision(3)}<br>after ${after[i].toPrecision(3)}`);
  const marks = (name, values, symbol, tone) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: values.map((v) => Math.max(v, floor)),
    y: at,
    text,
    hoverinfo: "text",
    marker: { symbol, size: 9, color: css(tone), line: { width: 2, color: css(tone) } },
    cliponaxis: false,
  });
  const way = {
    type: "scatter",
    mode: "lines",
    x: at.flatMap((i) => [Math.max(before[i], floor), Math.max(after[i], floor), null]),
    y: at.flatMap((i) => [i, i, null]),
    hoverinfo: "skip",
    showlegend: false,
    line: { color: css("--line"), width: 3 },
  };
  const traces = [way, marks("before the refit", before, "circle-open", "--gone"), marks("after", after, "circle", "--kept")];
  const x = { type: "log", dtick: 1, tickformat: "~g", title: captioned(width < 500 ? "error over variance (log scale)" : "mean square error over the variance of the outputs (log scale)") };
  const y = {
    tickvals: at,
    ticktext: brief(layers, width < 500 ? 12 : 24).labels,
    range: [layers.length - 0.5, -0.5],
    showgrid: false,
  };
  return [traces, frame(110 + 24 * layers.length, x, y, { legend: LEGEND, showlegend: true })];
}

/** Share of filters above the threshold over scales: by sample size, or by layer at the most samples. */
function thresholds(index, part, width) {
  const plot = data.outcomes[index].thresholds;
  const last = plot.sizes.length - 1;
  const sum = (cells) => cells.reduce((a, b) => a + (b ?? 0), 0);
  const bySize = plot.sizes.map((n, s) => ({
    name: `n = ${n}`,
    cells: plot.scales.map((_, q) => [
      sum(plot.layers.map((_, l) => plot.exceeding[l][s][q])),
      sum(plot.layers.map((_, l) => plot.filters[l][s][q])),
    ]),
  }));
  const names = brief(plot.layers, width < 500 ? 12 : 24).labels;
  const byLayer = plot.layers.map((layer, l) => ({
    name: names[l],
    cells: plot.scales.map((_, q) => [plot.exceeding[l][last][q], plot.filters[l][last][q]]),
  }));
  const rows = part === "sizes" ? bySize : byLayer;
  const part_of = ([above, of]) => (of ? above / of : null);
  const trace = {
    type: "heatmap",
    x: plot.scales.map((_, q) => q),
    y: rows.map((_, i) => i),
    z: rows.map((row) => row.cells.map(part_of)),
    text: rows.map((row) => row.cells.map((cell) => (part_of(cell) === null ? "" : `${Math.round(100 * part_of(cell))} %`))),
    hovertext: rows.map((row) => row.cells.map(([above, of], q) => `<b>${row.name}</b>, ${esc(plot.scales[q])}<br>${above} of ${of} filters exceed it`)),
    hoverinfo: "text",
    texttemplate: "%{text}",
    textfont: { size: width < 400 ? 9.5 : 11.5, color: "#1b1f27" },
    colorscale: TINTS,
    zmin: 0,
    zmax: 1,
    xgap: 1,
    ygap: 1,
    showscale: false,
  };
  const x = {
    tickvals: plot.scales.map((_, q) => q),
    ticktext: plot.scales.map((scale) => short(scale, 20)),
    title: captioned("radius, as a quantile of the layer’s distances"),
    showgrid: false,
  };
  const y = {
    tickvals: rows.map((_, i) => i),
    ticktext: rows.map((row) => row.name),
    range: [rows.length - 0.5, -0.5],
    showgrid: false,
  };
  return [[trace], frame(75 + 27 * rows.length, x, y)];
}
