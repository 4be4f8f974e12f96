// Scores on test samples after budgets: a line through the medians of each activation, a mark a seed.

function budget(index, kind) {
  const rows = data.budgets[index][Number(kind)];
  const { unit, metric } = rows[0];
  const activations = unique(data.budgets[index].flat().map((row) => row.activation));
  const said = (v) => (metric === "accuracy" ? percent(v) : Number(v.toPrecision(4)));
  const traces = unique(rows.map((row) => row.activation)).flatMap((name) => {
    const i = activations.indexOf(name);
    const own = rows.filter((row) => row.activation === name).sort((a, b) => a.at - b.at);
    const line = own.filter((row) => row.median !== null);
    const seeds = own.flatMap((row) => row.scores.map((score, seed) => ({ ...row, score, seed })));
    const head = (row) => `<b>${esc(name)}</b>, ${row.at} ${row.at === 1 ? unit.slice(0, -1) : unit}<br>rate ${row.learning_rate}, gain ${row.gain}`;
    const there = seeds.filter((row) => row.score !== null);
    return [
      {
        ...mark(line.map((r) => r.at), line.map((r) => r.median), colour(i), shape(i)[0], DASHES[Math.floor(i / 8) % DASHES.length]),
        name: esc(name),
        text: line.map((row) => `${head(row)}<br>median ${said(row.median)}`),
        error_y: {
          type: "data",
          symmetric: false,
          array: line.map((row) => (row.high === null ? 0 : row.high - row.median)),
          arrayminus: line.map((row) => (row.low === null ? 0 : row.median - row.low)),
          color: colour(i),
          thickness: 1,
        },
      },
      {
        ...mark(there.map((r) => r.at), there.map((r) => r.score), colour(i), shape(i)[0], "solid"),
        mode: "markers",
        showlegend: false,
        opacity: 0.4,
        text: there.map((row) => `${head(row)}<br>seed ${row.seed}: ${said(row.score)}`),
      },
    ];
  });
  const budgets = unique(rows.map((row) => row.at)).sort((a, b) => a - b);
  const x = {
    type: "log",
    tickvals: budgets,
    ticktext: budgets.map(String),
    title: { text: `${unit} (log scale)`, font: { size: 12 } },
  };
  const y = {
    ...(metric === "accuracy" && { tickformat: ".0%" }),
    title: { text: `test ${esc(metric)}`, font: { size: 11 } },
  };
  const legend = { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } };
  return [traces, frame(340, x, y, { showlegend: true, legend })];
}
