// Betti numbers over layers: one line a class, or one cell a filter.

/** The number at [epoch][layer][track], null where nothing was measured. */
const cell = (values, e, l, t) => values[e][l]?.[t] ?? null;

function cloudText(grid, e, l, t) {
  const note = grid.notes[cell(grid.note, e, l, t)];
  const scale = esc(grid.scales[cell(grid.scale, e, l, t)] ?? "");
  return `n = ${cell(grid.points, e, l, t)}, ${scale}${note ? `<br><i>${esc(note)}</i>` : ""}`;
}

function intervalText(grid, dim, e, l, t) {
  const low = grid.low ? cell(grid.low[dim], e, l, t) : null;
  return low === null ? "" : ` [${low} to ${cell(grid.high[dim], e, l, t)}]`;
}

function lines(index, dim, width) {
  const { lines: grid, epochs, tracks } = data.profiles[index];
  const { epoch, off } = shown[index];
  const values = grid.betti[dim];
  const ends = grid.high ? grid.high[dim].flat(2) : [];
  const axis = countAxis(known([...values.flat(2), ...ends])); // of all epochs: no jumps
  const hidden = (track) => off.has(tracks.indexOf(track));
  // Classes often agree: a little to the side each is seen.
  const apart = Math.min(0.07, 0.45 / grid.tracks.length);
  const aside = (t) => apart * (t - (grid.tracks.length - 1) / 2);
  const crowded = grid.layers.length > width / 14;
  const trace = (track, t, e, early) => {
    const i = tracks.indexOf(track);
    const y = grid.layers.map((_, l) => axis.map(cell(values, e, l, t)));
    return {
      type: "scatter",
      mode: early ? "lines" : "lines+markers",
      meta: early ? "first" : "now",
      x: grid.layers.map((_, l) => l + aside(t)),
      y,
      hoverinfo: early ? "skip" : "text",
      text: grid.layers.map(
        (layer, l) =>
          `<b>${esc(layer)}</b><br>${esc(trackName(track, index))}${epochName(epochs[e])}<br>${dim} = ` +
          `${cell(values, e, l, t)}${intervalText(grid, dim, e, l, t)}<br>${cloudText(grid, e, l, t)}`,
      ),
      opacity: early ? 0.65 : 1,
      line: { color: colour(i), width: early || crowded ? 1.5 : 2.5, dash: early ? "4px,4px" : "solid" },
      marker: {
        symbol: shape(i)[0],
        size: crowded ? 5 : 8,
        color: colour(i),
        line: { width: shape(i)[2] ? 2 : 0 },
      },
      ...(!early && grid.low && { error_y: bars(grid, dim, e, t, axis, y, colour(i)) }),
      cliponaxis: false,
    };
  };
  const visible = grid.tracks.map((track, t) => [track, t]).filter(([track]) => !hidden(track));
  const traces = [
    ...(epochs.length > 1 ? visible.map(([track, t]) => trace(track, t, 0, true)) : []),
    ...visible.map(([track, t]) => trace(track, t, epoch, false)),
  ];
  const y = { ...ticksOf(axis), range: [-0.03 * axis.top, 1.08 * axis.top] };
  if (axis.log) y.title = { text: "log scale", font: { size: 11 }, standoff: 4 };
  const x = layerTicks(grid.layers, width);
  const marked = doubtful(grid, epoch, visible.map(([, t]) => t));
  // A turned label reaches to the left of its tick.
  const l = x.tickangle ? Math.max(8, 4.5 * x.ticktext[0].length) : 8;
  const margin = { l, r: 12, t: marked.shapes ? 26 : 8, b: 8 };
  return [traces, frame(320, x, y, { ...marked, margin })];
}

function bars(grid, dim, e, t, axis, y, color) {
  const away = (ends, sign) =>
    y.map((v, l) => {
      const end = axis.map(cell(ends[dim], e, l, t));
      return v === null || end === null ? 0 : Math.max(0, sign * (end - v));
    });
  return {
    type: "data",
    symmetric: false,
    array: away(grid.high, 1),
    arrayminus: away(grid.low, -1),
    color,
    thickness: 1.25,
    width: 3,
  };
}

/** Layers whose scale is undetermined are shaded and said to be so where one looks. */
function doubtful(grid, e, tracks) {
  const at = grid.layers
    .map((_, l) => l)
    .filter((l) => tracks.some((t) => grid.doubtful[cell(grid.scale, e, l, t)]));
  const runs = [];
  for (const l of at) {
    if (runs.at(-1)?.[1] === l - 1) runs.at(-1)[1] = l;
    else runs.push([l, l]);
  }
  const shapes = runs.map(([from, to]) => ({
    type: "rect",
    x0: from - 0.4,
    x1: to + 0.4,
    y0: 0,
    y1: 1,
    yref: "paper",
    fillcolor: css("--warn"),
    opacity: 0.13,
    line: { width: 0 },
    layer: "below",
  }));
  if (!runs.length) return {};
  const [from, to] = runs.reduce((a, b) => (b[1] - b[0] > a[1] - a[0] ? b : a));
  const right = from + to > grid.layers.length - 1;
  const label = {
    text: "⚠ scale undetermined",
    x: right ? to + 0.4 : from - 0.4,
    xanchor: right ? "right" : "left",
    y: 1,
    yref: "paper",
    yanchor: "bottom",
    showarrow: false,
    font: { size: 12, color: css("--warn") },
  };
  return { shapes, annotations: [label] };
}

// Beside the cells it would take a quarter of a phone.
const ABOVE = { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", ypad: 6 };

function heat(index, dim, width) {
  const { heat: grid, epochs } = data.profiles[index];
  const e = shown[index].epoch;
  const axis = countAxis(known(grid.betti[dim].flat(2)));
  const small = width < 500;
  const cellWidth = small ? 5 : 7;
  // A layer of many filters goes on in the next row, so that every cell is wide enough to point at.
  const across = Math.min(grid.tracks.length, 2 ** Math.floor(Math.log2(Math.max(8, (width - 120) / cellWidth))));
  const widest = (l) => largest(grid.betti.b0.map((of) => of[l].length), 1);
  const rows = grid.layers.flatMap((_, l) =>
    times(Math.ceil(widest(l) / across), (part) => ({ l, start: part * across })),
  );
  const cells = (make) =>
    rows.map(({ l, start }) =>
      times(across, (i) => (cell(grid.betti.b0, e, l, start + i) === null ? null : make(l, start + i))),
    );
  const trace = {
    type: "heatmap",
    x: times(across, (i) => i),
    y: rows.map((_, i) => i),
    z: cells((l, t) => axis.map(cell(grid.betti[dim], e, l, t))),
    text: cells((l, t) => {
      const numbers = Object.keys(grid.betti).map(
        (d) => `${d} = ${cell(grid.betti[d], e, l, t)}${intervalText(grid, d, e, l, t)}`,
      );
      return (
        `<b>${esc(grid.layers[l])}</b><br>filter ${grid.tracks[t]}${epochName(epochs[e])}` +
        `<br>${numbers.join(", ")}<br>${cloudText(grid, e, l, t)}`
      );
    }),
    hoverinfo: "text",
    hoverongaps: false,
    colorscale: "Cividis",
    zmin: 0,
    zmax: axis.top,
    xgap: 1,
    ygap: 1,
    colorbar: { thickness: 10, outlinewidth: 0, ...ticksOf(axis), ...(small && ABOVE) },
  };
  const first = grid.layers.map((_, l) => rows.findIndex((row) => row.l === l));
  const tall = Math.max(small ? 9 : 13, Math.min(26, 520 / rows.length));
  const { labels, prefix } = brief(grid.layers, small ? 13 : 20);
  const y = { tickvals: first, ticktext: labels, range: [rows.length - 0.5, -0.5], showgrid: false };
  y.tickfont = { size: Math.min(12, tall - 1) };
  const wrapped = rows.length > grid.layers.length;
  const title = `filter${wrapped ? `, ${across} a row` : ""}${prefix ? `; layers in ${short(prefix, 30)}` : ""}`;
  const x = { title: { text: title, font: { size: 12 } }, showgrid: false };
  const shapes = first.slice(1).map((row) => ({
    type: "line",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: row - 0.5,
    y1: row - 0.5,
    line: { color: css("--panel"), width: 4 },
  }));
  return [[trace], frame(90 + (small ? 40 : 0) + tall * rows.length, x, y, { shapes })];
}
