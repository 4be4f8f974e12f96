// Scores of filters, sorted within their layer, and what a plan removes.

function filters(index, _, width) {
  const plot = data.filters_of[index];
  const axis = scoreAxis(plot.layers.flatMap((layer) => layer.scores).filter((v) => v !== null));
  const gap = Math.max(1, plot.layers.reduce((n, layer) => n + layer.scores.length, 0) / 40);
  const ticks = { tickvals: [], ticktext: [] };
  const shapes = [];
  const marks = [];
  let start = 0;
  for (const layer of plot.layers) {
    marks.push(...layer.scores.map((_, i) => filterMark(layer, i, start, axis)));
    const end = start + layer.scores.length - 1;
    ticks.tickvals.push((start + end) / 2);
    ticks.ticktext.push(short(layer.name, width < 500 ? 10 : 18));
    if (start) shapes.push(upright(start - gap / 2));
    start = end + 1 + gap;
  }
  const range = [-gap / 2 - 0.5, start - gap / 2];
  const traces = filterTraces(marks, start > 400 ? 5 : 7);
  if (plot.threshold !== null)
    traces.push({
      type: "scatter",
      mode: "lines",
      name: `threshold ${plot.threshold}`,
      x: range,
      y: [plot.threshold, plot.threshold].map(axis.map),
      hoverinfo: "name",
      line: { color: css("--ink"), width: 1.5, dash: "dash" },
    });
  const score = plot.criterion === "betti" ? "Betti number, b0 + b1" : short(plot.criterion, 24);
  const title = { text: score + (axis.log ? " (log scale)" : ""), font: { size: 12 }, standoff: 6 };
  const y = { ...axis.ticks, range: axis.range, title };
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" };
  const more = { shapes, legend, showlegend: plot.planned };
  return [traces, frame(360, { ...ticks, range, showgrid: false }, y, more)];
}

function filterMark(layer, i, start, axis) {
  const score = layer.scores[i];
  const reason = layer.reasons[i];
  const note = layer.notes[i];
  const text =
    `<b>${esc(layer.name)}</b>, filter ${esc(layer.filters[i])}<br>${note ? esc(note) : `score ${score}`}` +
    (reason === null ? "" : `<br>removed ${esc(reason)}`);
  return { x: start + i, y: axis.map(score), text, goes: reason !== null, redundant: Boolean(note) };
}

const filterTraces = (marks, size) =>
  [
    ["stays", "circle", "--kept", (mark) => !mark.goes && !mark.redundant],
    ["is removed", "x-thin", "--gone", (mark) => mark.goes && !mark.redundant],
    ["dead or a duplicate, at the edge", "triangle-down-open", "--soft", (mark) => mark.redundant],
  ].flatMap(([name, symbol, tone, belongs]) => {
    const of = marks.filter(belongs);
    if (!of.length && tone === "--soft") return [];
    return {
      type: "scatter",
      mode: "markers",
      name,
      x: of.map((mark) => mark.x),
      y: of.map((mark) => mark.y),
      text: of.map((mark) => mark.text),
      hoverinfo: "text",
      marker: { symbol, color: css(tone), size, line: { color: css(tone), width: symbol === "circle" ? 0 : 1.75 } },
      cliponaxis: false,
    };
  });

/** A logarithm of scores above 0, which need not be counts. */
function powersAxis(least, high) {
  const ends = [Math.log10(least), Math.log10(high)];
  const pad = 0.06 * (ends[1] - ends[0]);
  const powers = times(Math.floor(ends[1]) - Math.ceil(ends[0]) + 1, (i) => Math.ceil(ends[0]) + i);
  const every = Math.ceil(powers.length / 8);
  const tickvals = powers.filter((_, i) => i % every === 0);
  const ticktext = tickvals.map((p) => (p < -3 ? `1e${p}` : (10 ** p).toLocaleString("en")));
  const map = (v) => (v === null || v === undefined ? null : Math.log10(v));
  return { log: true, map, ticks: { tickvals, ticktext }, range: [ends[0] - pad, ends[1] + pad] };
}

/** Scores may be negative or small fractions; only then Plotly chooses the ticks. */
function scoreAxis(values) {
  const low = smallest(values, 0);
  const axis = countAxis(values);
  const counts = low === 0 && values.every(Number.isInteger);
  if (counts || (axis.log && low === 0))
    return { ...axis, ticks: ticksOf(axis), range: [-0.03 * axis.top, 1.1 * axis.top] };
  const high = largest(values, -Infinity);
  const least = smallest(values, Infinity);
  if (least > 0 && high > 50 * least) return powersAxis(least, high);
  const pad = 0.08 * (high - low || 1);
  return { map: (v) => v, ticks: {}, range: [low - pad, high + pad] };
}
