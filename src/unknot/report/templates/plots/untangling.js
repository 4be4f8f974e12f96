// Tangle, islands and purity over layers, with their intervals, over what chance gives.

function untangling(index, name, width) {
  const { untangling: all, epochs } = data.profiles[index];
  const { layers, measures, note, notes, points } = all.curves;
  const { values, low, high, null: random, shuffled } = measures[name];
  const e = shown[index].epoch;
  const color = css("--kept");
  const x = layers.map((_, l) => l);
  const digits = name === "islands" ? 0 : 2;
  const said = (v) => v.toFixed(digits);
  const text = layers.map((layer, l) => {
    if (values[e][l] === null) return `<b>${esc(layer)}</b><br>not measured`;
    const within = low[e][l] === null ? "" : ` [${said(low[e][l])} to ${said(high[e][l])}]`;
    const chance =
      (random[l] ? `<br>random weights: ${said(random[l][0])} to ${said(random[l][1])}` : "") +
      (shuffled?.[l] ? `<br>shuffled labels: ${said(shuffled[l][0])} to ${said(shuffled[l][1])}` : "");
    const more = notes[note[e][l]];
    return (
      `<b>${esc(layer)}</b>${epochName(epochs[e])}<br>${name} = ${said(values[e][l])}${within}${chance}` +
      `<br>n = ${points[e][l]}${more ? `<br><i>${esc(more)}</i>` : ""}`
    );
  });
  const line = (of, dash, width) => ({
    type: "scatter",
    x,
    y: of,
    line: { color, width, dash },
    cliponaxis: false,
  });
  const crowded = layers.length > width / 14;
  const traces = [
    ...[random, shuffled ?? []].flatMap((of) =>
      area(x, x.map((l) => of[l]?.[0] ?? null), x.map((l) => of[l]?.[1] ?? null), css("--soft"), 0.35),
    ),
    ...area(x, low[e], high[e], color, 0.22),
    ...(epochs.length > 1 ? [{ ...line(values[0], "4px,4px", 1.5), mode: "lines", opacity: 0.65, hoverinfo: "skip" }] : []),
    { ...line(values[e], "solid", 2.5), mode: "lines+markers", meta: "now", hoverinfo: "text", text, marker: { color, size: crowded ? 5 : 8 } },
  ];
  const ends = [values, low, high, random, shuffled ?? []].flatMap((of) => known(of.flat(2)));
  const most = largest(ends, name === "islands" ? 2 : 1);
  const least = Math.min(0, smallest(ends, 0));
  const pad = 0.06 * (most - least);
  const y = { range: [least - pad, most + pad], nticks: 6, ...(name === "islands" && { dtick: step(most) }) };
  const ticks = layerTicks(layers, width);
  const l = ticks.tickangle ? Math.max(8, 4.5 * ticks.ticktext[0].length) : 8;
  return [traces, frame(260, ticks, y, { margin: { l, r: 12, t: 8, b: 8 } })];
}

/** A band between two lines; of each run of layers where both are known, even of one. */
function area(x, low, high, color, opacity) {
  const runs = [];
  x.forEach((at, i) => {
    if (low[i] === null || high[i] === null) return;
    if (runs.at(-1)?.at(-1) === i - 1) runs.at(-1).push(i);
    else runs.push([i]);
  });
  return runs.map((run) => {
    const wide = run.length > 1 ? run.map((i) => [x[i], i]) : [[x[run[0]] - 0.2, run[0]], [x[run[0]] + 0.2, run[0]]];
    return {
      type: "scatter",
      mode: "lines",
      x: [...wide, ...[...wide].reverse()].map(([at]) => at),
      y: [...wide.map(([, i]) => low[i]), ...[...wide].reverse().map(([, i]) => high[i])],
      fill: "toself",
      fillcolor: color,
      opacity,
      line: { width: 0 },
      hoverinfo: "skip",
    };
  });
}
