// Kaplan-Meier curves: the share of the runs of one set that have not reached the target yet.

const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

function survival(index, set) {
  const everything = data.studies[index];
  const all = atTarget(index, everything).filter((row) => row.survival);
  const rows = all.filter((row) => row.set === set);
  const activations = unique(everything.map((row) => row.activation));
  const ends = (some) => some.flatMap((row) => [row.cap, ...row.survival.epochs]);
  const axis = countAxis(ends(rows), spansMuch(ends(all))); // all sets on one kind of axis, to be compared
  const traces = rows.flatMap((row) => {
    const i = activations.indexOf(row.activation);
    const { epochs, share } = row.survival;
    const last = share.at(-1) ?? 1;
    const x = [0, ...epochs, ...(last > 0 ? [row.cap] : [])];
    const y = [1, ...share, ...(last > 0 ? [last] : [])];
    const runs = (s) => `${Math.round(s * row.seeds)} of ${row.seeds}`;
    const line = {
      type: "scatter",
      mode: "lines",
      name: esc(row.activation),
      x: x.map(axis.map),
      y,
      text: x.map((e, k) => `<b>${esc(row.activation)}</b><br>after ${e} epoch${e === 1 ? "" : "s"} ${runs(y[k])} not there yet`),
      hoverinfo: "text",
      line: { shape: "hv", width: 2, color: colour(i), dash: DASHES[Math.floor(i / 8) % DASHES.length] },
      cliponaxis: false,
    };
    const marks = {
      ...line,
      mode: "markers",
      showlegend: false,
      x: line.x.slice(1),
      y: y.slice(1),
      text: line.text.slice(1),
      marker: {
        size: 7,
        color: colour(i),
        symbol: x.slice(1).map((_, k) => (k < epochs.length ? shape(i)[0] : "triangle-right-open")),
      },
    };
    return [line, marks];
  });
  const x = {
    ...ticksOf(axis),
    range: [0, axis.top * 1.02],
    title: { text: axis.log ? "epochs (log scale)" : "epochs", font: { size: 12 } },
  };
  const y = { range: [-0.03, 1.05], tickformat: ".0%", title: { text: "not there yet", font: { size: 11 } } };
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } };
  return [traces, frame(340, x, y, { showlegend: true, legend })];
}
