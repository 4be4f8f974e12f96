// Axes and the frame that all plots share.

/** An axis for counts: linear, or log(1 + v) where they span more than 50 times, so that 0 has a place. */
function countAxis(values, log = spansMuch(values)) {
  const most = largest(values, 1);
  const map = (v) => (v === null || v === undefined ? null : log ? Math.log10(1 + v) : v);
  const ticks = log ? [0] : times(Math.floor(most / step(most)) + 1, (i) => i * step(most));
  for (let t = 1; log && t <= most; t *= 10) ticks.push(...[t, 3 * t].filter((v) => v <= most));
  return { most, log, map, top: map(most), ticks };
}

function spansMuch(values) {
  const most = largest(values, 1);
  return most > 50 * Math.max(1, smallest(values, most));
}

function step(most) {
  const unit = 10 ** Math.floor(Math.log10(most / 5));
  return Math.max(1, [1, 2, 5, 10].find((m) => m * unit >= most / 5) * unit);
}

const ticksOf = (axis) => ({
  tickvals: axis.ticks.map(axis.map),
  ticktext: axis.ticks.map((t) => t.toLocaleString("en")),
});

const axisOf = () => ({
  gridcolor: css("--line"),
  zeroline: false,
  automargin: true,
  tickfont: { size: 12 },
  fixedrange: narrow.matches,
});

function frame(height, xaxis, yaxis, more = {}) {
  return {
    height,
    margin: { l: 8, r: 12, t: 8, b: 8 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: {
      bgcolor: css("--page"),
      bordercolor: css("--line"),
      font: { color: css("--ink") },
      align: "left",
    },
    dragmode: narrow.matches ? false : "zoom", // a finger on a plot scrolls the page
    xaxis: { ...axisOf(), ...xaxis },
    yaxis: { ...axisOf(), ...yaxis },
    ...more,
  };
}

/** How many first parts of dotted names all of them share; names without a dot do not count. */
function sharedParts(list) {
  const dotted = list.filter((name) => name.includes(".")).map((name) => name.split("."));
  let shared = 0;
  while (dotted.length > 1 && dotted.every((parts) => parts.length > shared + 1 && parts[shared] === dotted[0][shared]))
    shared += 1;
  return { shared, prefix: shared ? dotted[0].slice(0, shared).join(".") : "" };
}

/** Layer names as they fit on an axis; the whole name stands in the hover text. */
function brief(list, most) {
  const { shared, prefix } = sharedParts(list);
  const own = list.map((name) => (name.includes(".") ? name.split(".").slice(shared).join(".") : name));
  const kept = [1, 2].map((tail) => own.map((name) => (name.length > most ? landmarks(name, tail) : name)));
  const labels = kept.find((names) => unique(names).length === unique(own).length) ?? kept[1];
  return { labels: labels.map((name) => short(name, most)), prefix };
}

/** Of a dotted name the numbered parts and the last ones: "encoder.layer.3.output.dense" is "…3…dense". */
function landmarks(name, tail) {
  const parts = name.split(".");
  const keep = (part, i) => /\d/.test(part) || i >= parts.length - tail;
  return parts
    .map((part, i) => (keep(part, i) ? part : "…"))
    .join(".")
    .replace(/\.?(…\.?)+/g, "…");
}

/** Ticks of layer names below a plot: turned where they are long, thinned so that none overprints another. */
function layerTicks(list, width) {
  const { labels, prefix } = brief(list, 16);
  const longest = largest(labels.map((label) => label.length), 1);
  const level = list.length * (longest * 6.5 + 12) < width;
  const apart = narrow.matches ? 13 : 17; // upright labels stand closer than slanted ones
  const every = level ? 1 : Math.ceil(list.length / Math.max(3, Math.floor((width - 50) / apart)));
  const last = list.length - 1;
  const at = times(list.length, (i) => i).filter((i) => i === last || (i % every === 0 && last - i >= every));
  return {
    tickvals: at,
    ticktext: at.map((i) => labels[i]),
    tickangle: level ? 0 : narrow.matches ? -90 : -50,
    ticklabeloverflow: "allow", // else Plotly hides the first one, see lines()
    range: [-0.4, list.length - 0.6],
    showgrid: false,
    ...(prefix && { title: { text: `in ${short(prefix, 40)}`, font: { size: 11 }, standoff: 6 } }),
  };
}

const upright = (x, more = {}) => ({
  type: "line",
  x0: x,
  x1: x,
  y0: 0,
  y1: 1,
  yref: "paper",
  line: { color: css("--line"), width: 1 },
  ...more,
});
