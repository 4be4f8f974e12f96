// Epochs to a target accuracy: one mark a seed, one strip an activation.

/** The rows of the chosen target, "0.99" on train or "0.99 test" on test samples. */
function atTarget(index, rows) {
  const chosen = document.querySelector(`[data-target="${index}"]:checked`);
  if (!chosen) return rows;
  const [target, split] = chosen.value.split(" ");
  return rows.filter((row) => row.target === Number(target) && row.split === (split ?? "train"));
}

function study(index, _, width) {
  const everything = data.studies[index];
  const rows = atTarget(index, everything);
  const activations = unique(everything.map((row) => row.activation));
  const cell = (row) => `${row.set}\n${row.activation}`;
  const axis = countAxis(rows.flatMap((row) => row.epochs.filter((e) => e !== null)));
  // What was not reached has a band of its own past every number.
  const band = [axis.top * 1.07, axis.top * 1.25];
  const censored = rows.some((row) => row.epochs.includes(null));
  const most = width < 500 ? 16 : 40;
  const traces = [];
  const labels = [];
  for (const set of unique(rows.map((row) => row.set))) {
    labels.push(`<b>${short(set, most)}</b>`);
    for (const row of rows.filter((r) => r.set === set)) {
      const y = labels.length;
      const alone = rows.filter((r) => cell(r) === cell(row)).length === 1;
      const settings = `rate ${row.learning_rate}, gain ${row.gain}`;
      labels.push(short(row.activation, most) + (alone ? "" : `<br>${settings}`));
      traces.push(...strip(row, y, settings, axis, band, activations.indexOf(row.activation)));
    }
  }
  const y = {
    tickvals: labels.map((_, i) => i),
    ticktext: labels,
    range: [labels.length - 0.4, -0.6],
    showgrid: false,
    tickfont: { size: 12, color: css("--ink") },
  };
  const x = {
    ...ticksOf(axis),
    range: [-0.02 * axis.top, censored ? band[1] : 1.04 * axis.top],
    title: { text: axis.log ? "epochs (log scale)" : "epochs", font: { size: 12 } },
  };
  const more = censored ? notReached(band, missedText(rows.map((row) => row.cap))) : {};
  return [traces, frame(80 + 40 * labels.length, x, y, more)];
}

function strip(row, y, settings, axis, band, i) {
  const seeds = row.epochs.map((epoch, seed) => ({ epoch, seed }));
  const spread = (j, n) => y + (n < 2 ? 0 : (j / (n - 1) - 0.5) * 0.66);
  const head = `<b>${esc(row.set)}, ${esc(row.activation)}</b><br>${settings}`;
  const marks = (some, x, symbol, label) => ({
    type: "scatter",
    mode: "markers",
    x: some.map(x),
    y: some.map(({ seed }) => spread(seed, seeds.length)),
    text: some.map((s) => `${head}<br>seed ${s.seed}: ${label(s)}`),
    hoverinfo: "text",
    marker: { symbol, size: 9, color: colour(i), line: { width: symbol.endsWith("open") ? 2 : 0 } },
    cliponaxis: false,
  });
  const reached = seeds.filter((s) => s.epoch !== null);
  const missed = seeds.filter((s) => s.epoch === null);
  const across = (_, j) => band[0] + ((band[1] - band[0]) * (j + 0.7)) / (missed.length + 0.4);
  const traces = [
    marks(reached, (s) => axis.map(s.epoch), shape(i)[0], (s) => `${s.epoch} epoch${s.epoch === 1 ? "" : "s"}`),
    marks(missed, across, "triangle-right-open", () => missedText([row.cap])),
  ];
  if (row.median !== null)
    traces.push({
      type: "scatter",
      mode: "markers",
      x: [axis.map(row.median)],
      y: [y],
      text: [`${head}<br>median ${row.median} epoch${row.median === 1 ? "" : "s"}`],
      hoverinfo: "text",
      marker: { symbol: "line-ns-open", size: 28, color: css("--ink"), line: { width: 2.5 } },
    });
  return traces;
}

/** "not reached in 60 epochs"; without the number where rows do not share one, or do not know it. */
function missedText(caps) {
  const [cap, ...others] = unique(caps);
  return cap && !others.length ? `not reached in ${cap} epoch${cap === 1 ? "" : "s"}` : "not reached";
}

const notReached = (band, text) => ({
  shapes: [
    {
      type: "rect",
      x0: band[0],
      x1: band[1],
      y0: 0,
      y1: 1,
      yref: "paper",
      fillcolor: css("--line"),
      opacity: 0.5,
      line: { width: 0 },
      layer: "below",
    },
  ],
  annotations: [
    {
      text,
      x: band[1],
      xanchor: "right",
      y: 1,
      yref: "paper",
      yanchor: "top",
      showarrow: false,
      font: { size: 12, color: css("--soft") },
    },
  ],
});
