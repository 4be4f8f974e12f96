// How much the scale decides: Betti numbers over k and hops, or over the radius.

function sensitivity(index, place, width) {
  const [number, dim] = place.split("-");
  const part = data.profiles[index].sensitivity[Number(number)];
  return part.rule === "knn" ? ladder(index, part, dim, width) : radii(index, part, dim);
}

// Light at both ends, in both themes: the numbers in the cells have to be read.
const TINTS = [
  [0, "#f4f7fb"],
  [0.5, "#bcd7f2"],
  [1, "#7ab3e8"],
];
const round = (v) => (v < 1000 ? String(v) : `${(v / 1000).toPrecision(2)}k`);

/** One row a class and number of hops, one column a k, the numbers in the cells. */
function ladder(index, part, dim, width) {
  const axis = countAxis(known(part[dim].flat(2)));
  const rows = part.labels.flatMap((label, c) => part.y.map((hops, h) => ({ label, c, hops, h })));
  const at = part.chosen ? [part.x.indexOf(part.chosen[0]), part.y.indexOf(part.chosen[1])] : [-1, -1];
  const trace = {
    type: "heatmap",
    x: part.x.map((_, i) => i),
    y: rows.map((_, i) => i),
    z: rows.map(({ c, h }) => part[dim][c][h].map(axis.map)),
    text: rows.map(({ c, h }) => part[dim][c][h].map((v) => (v === null ? "" : round(v)))),
    hovertext: rows.map(({ label, c, hops, h }) =>
      part[dim][c][h].map((v, i) =>
        v === null
          ? ""
          : `${esc(trackName(label, index))}, n = ${part.points[c]}<br>k = ${part.x[i]}, hops = ${hops}<br>${dim} = ${v}`,
      ),
    ),
    hoverinfo: "text",
    hoverongaps: false,
    texttemplate: "%{text}",
    textfont: { size: width < 400 ? 9.5 : 11.5, color: "#1b1f27" },
    colorscale: TINTS,
    zmin: 0,
    zmax: axis.top,
    xgap: 1,
    ygap: 1,
    showscale: false,
  };
  const few = part.y.length > 1;
  const name = (label) => (label === null ? "all" : width < 400 ? `${label}` : short(trackName(label, index), 16));
  const y = {
    tickvals: rows.map((_, i) => i),
    ticktext: rows.map(({ label, hops, h }) =>
      few ? `${h === 0 ? `<b>${name(label)}</b>  ` : ""}${hops} hop${hops > 1 ? "s" : ""}` : name(label),
    ),
    range: [rows.length - 0.5, -0.5],
    showgrid: false,
  };
  const x = {
    tickvals: part.x.map((_, i) => i),
    ticktext: part.x.map(String),
    title: { text: "k, nearest neighbours", font: { size: 12 } },
    showgrid: false,
  };
  const box = (row) => ({
    type: "rect",
    x0: at[0] - 0.5,
    x1: at[0] + 0.5,
    y0: row - 0.5,
    y1: row + 0.5,
    line: { color: "#c2185b", width: 3 },
  });
  const chosen = at.includes(-1) ? [] : rows.flatMap(({ h }, i) => (h === at[1] ? [box(i)] : []));
  const between = part.labels.slice(1).map((_, c) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: (c + 1) * part.y.length - 0.5,
    y1: (c + 1) * part.y.length - 0.5,
    line: { color: css("--panel"), width: 5 },
  }));
  return [[trace], frame(70 + 27 * rows.length, x, y, { shapes: [...between, ...chosen] })];
}

function radii(index, part, dim) {
  const { tracks } = data.profiles[index];
  const axis = countAxis(known(part[dim].flat(2)));
  const traces = part.labels.flatMap((label, c) => {
    const i = Math.max(0, tracks.indexOf(label));
    if (shown[index].off.has(i)) return [];
    return {
      type: "scatter",
      mode: "lines+markers",
      x: part.x,
      y: part[dim][c][0].map(axis.map),
      text: part[dim][c][0].map(
        (v, r) => `${esc(trackName(label, index))}, n = ${part.points[c]}<br>radius = ${part.x[r].toPrecision(4)}<br>${dim} = ${v}`,
      ),
      hoverinfo: "text",
      line: { color: colour(i), width: 2 },
      marker: { symbol: shape(i)[0], size: 7, color: colour(i) },
      cliponaxis: false,
    };
  });
  const y = { ...ticksOf(axis), range: [-0.03 * axis.top, 1.08 * axis.top] };
  if (axis.log) y.title = { text: "log scale", font: { size: 11 }, standoff: 4 };
  const ticks = part.x.filter((_, i) => i % 4 === 0);
  const x = {
    type: "log",
    tickvals: ticks,
    ticktext: ticks.map((r) => r.toPrecision(2)),
    title: { text: "radius (log scale)", font: { size: 12 } },
  };
  const shapes = part.chosen ? [upright(part.chosen, { line: { color: css("--ink"), width: 1.5, dash: "dash" } })] : [];
  return [traces, frame(300, x, y, { shapes })];
}
