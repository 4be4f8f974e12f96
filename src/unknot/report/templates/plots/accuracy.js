// Complexity over accuracy on one axis of epochs: two panels, since two scales in one would suggest a match.

/** b0 + b1 (+ b2) at a layer of every class; of filters, their mean. */
function complexity(index, layer) {
  const { lines: byClass, heat: byFilter, epochs } = data.profiles[index];
  const grid = byClass ?? byFilter;
  const sum = (e, t) => {
    const found = Object.values(grid.betti).map((values) => cell(values, e, layer, t));
    return found[0] === null ? null : found.reduce((a, b) => a + (b ?? 0), 0);
  };
  if (byClass)
    return grid.tracks.map((track, t) => ({ track, values: epochs.map((_, e) => sum(e, t)) }));
  const mean = (e) => {
    const found = known(grid.tracks.map((_, t) => sum(e, t)));
    return found.length ? found.reduce((a, b) => a + b, 0) / found.length : null;
  };
  return [{ track: "mean of the filters", values: epochs.map((_, e) => mean(e)) }];
}

function accuracy(index) {
  const { epochs, tracks, accuracy: found, lines: byClass, heat: byFilter } = data.profiles[index];
  const { epoch, off, sum } = shown[index];
  const layer = (byClass ?? byFilter).layers[sum];
  const sums = complexity(index, sum);
  const axis = countAxis(known(sums.flatMap((of) => of.values)));
  const above = sums.flatMap(({ track, values }) => {
    const i = Math.max(0, tracks.indexOf(track));
    if (byClass && off.has(i)) return [];
    const name = typeof track === "string" ? track : esc(trackName(track, index));
    return {
      ...mark(epochs, values.map(axis.map), colour(i), shape(i)[0], "solid"),
      text: values.map((v, e) => `<b>${esc(layer)}</b><br>${name}, epoch ${epochs[e]}<br>b0 + b1 = ${v}`),
    };
  });
  const below = [];
  for (const [kind, name, symbol, dash] of ACCURACIES) {
    if (!found || !known(found[kind]).length) continue;
    below.push({
      ...mark(found.epochs, found[kind], css("--ink"), symbol, dash),
      connectgaps: true,
      yaxis: "y2",
      text: found[kind].map((v, i) => `${name}, epoch ${found.epochs[i]}<br>${v === null ? "" : percent(v)}`),
    });
  }
  const shares = below.flatMap((trace) => known(trace.y));
  const floor = smallest(shares, 1) < 0.5 ? 0 : 0.5;
  const y = {
    ...ticksOf(axis),
    range: [-0.04 * axis.top, 1.08 * axis.top],
    domain: below.length ? [0.5, 1] : [0, 1],
    title: { text: axis.log ? "b0 + b1, log scale" : "b0 + b1", font: { size: 11 }, standoff: 4 },
  };
  const y2 = {
    ...axisOf(),
    domain: [0, 0.4],
    range: [floor - 0.02, 1.04],
    tickformat: ".0%",
    nticks: 5,
    title: { text: "accuracy", font: { size: 11 }, standoff: 4 },
  };
  const all = known([...epochs, ...(found?.epochs ?? [])]);
  const pad = 0.02 * (largest(all, 0) - smallest(all, Infinity)) || 0.5;
  const x = {
    title: { text: "epoch", font: { size: 12 } },
    range: [smallest(all, Infinity) - pad, largest(all, 0) + pad],
    anchor: below.length ? "y2" : "y",
    dtick: step(largest(all, 1)),
  };
  const marker = upright(epochs[epoch], { line: { color: css("--link"), width: 2 } });
  return [[...above, ...below], frame(320, x, y, { ...(below.length && { yaxis2: y2 }), shapes: [marker] })];
}

const ACCURACIES = [
  ["probe", "on the measured samples", "circle", "solid"],
  ["given", "given by the caller", "diamond-open", "dot"],
];

const mark = (x, y, color, symbol, dash) => ({
  type: "scatter",
  mode: "lines+markers",
  x,
  y,
  hoverinfo: "text",
  line: { color, width: 2, dash },
  marker: { symbol, size: x.length > 30 ? 4 : 6, color },
  cliponaxis: false,
});
